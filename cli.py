"""The command line: it parses the arguments and calls one of `commands`. Nothing heavy is imported here."""

from __future__ import annotations

# Before all else: a signal during the other imports ends the program in one line.
from layertap.commands.terminal import signals

# isort: split
import argparse
import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from feature_cache.errors import LayertapError
from feature_cache.version import own_version
from layertap.commands.arguments import fine_tune, heads, shared, types
from layertap.commands.ramp import parser as ramp_parser
from layertap.commands.terminal import flags, streams

BACKENDS = ("tensorflow", "jax", "torch")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 for a mistake that the user can mend, 1 for a failure."""
    stderr = streams.prepare()
    with signals.raised() as received:
        try:
            status = _run(argv)
            sys.stdout.flush()
        except SystemExit:  # of the parser: help, or a mistake
            if not (status := _flush()):
                raise
        except BaseException as error:
            status = _explained(error, received.number)
    streams.abandon_stdout()
    return status or int(stderr is not None and stderr.lost)


def _run(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for library in ("PIL", "tifffile"):  # our own messages say what is wrong with an image
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if not sys.warnoptions:  # libraries warn of what is not the user's to mend; python -W default shows it
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    flags.use(args.parser)
    module, function = args.command.split(":")
    return getattr(importlib.import_module(module), function)(args) or 0


def _joined(words: Sequence[str]) -> list[str]:
    """The arguments, with ``--range -1,1`` as ``--range=-1,1``: the parser takes what begins with - for an option."""
    out: list[str] = []
    for word in words:
        if out and re.fullmatch(r"--[a-z-]+", out[-1]) and re.fullmatch(r"-[\d.][^,]*,.*", word):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


def _explained(error: BaseException, number: int | None) -> int:
    """Say in a line what ended a command, an error or the signal `number`; the exit status."""
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = signals.INTERRUPTED if number is None else number
        return _fail(signals.message(number), 128 + number)
    if isinstance(error, LayertapError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError) and error.name in BACKENDS:
        install = f"pip install 'layertap[{error.name}]'"
        choices = ", ".join(BACKENDS)
        return _fail(f"Keras needs {error.name}: {install}, or set KERAS_BACKEND to another of {choices}.", 2)
    if isinstance(error, BrokenPipeError):  # whoever read our output, head for instance, has gone
        return 0
    if isinstance(error, MemoryError):
        return _fail("there is not enough memory; take fewer images, or features of a smaller layer.", 1)
    if isinstance(error, OSError):
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}.", 1)
    raise error


def _flush() -> int:
    """Write what stdout holds; the exit status for that."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _explained(error, None)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and let what is lost be an error; argparse passes over it."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"layertap: {message}; see {self.prog} --help\n")


def _fail(message: str, status: int) -> int:
    print(f"layertap: {' '.join(flags.with_flags(message).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="layertap",
        description="Cut a pretrained net at a layer, keep the activations of your images, train heads on them.",
        epilog="DATA is digits (built in), a folder with a subfolder per class, a folder of images, a CSV file with "
        "columns id and class and images beside it, in imgs/ or in --images, the folder of a RAMP kit, or arrays: an "
        ".npz file with X and y, or an IDX file, train-images-idx3-ubyte.gz. --split names a part of what is divided.",
    )
    parser.add_argument("--version", action="version", version=f"layertap {own_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _add(commands, "nets", "layertap.commands.nets:nets", "list the nets that are known by name")
    sub = _add(
        commands, "layers", "layertap.commands.nets:layers", "list the layers of a net, with their shapes and costs"
    )
    sub.add_argument("net", metavar="NET", help="name of a net, a .keras or .h5 file, or run of fine-tune")
    sub.add_argument("--size", type=types.size, help="input size in pixels (default: the net's own)")

    show = (shared.add_data, shared.add_quiet)
    sub = _add(
        commands,
        "explore",
        "layertap.commands.explore:explore",
        "say and show what a data set holds: classes, shapes, copies",
        *show,
    )
    _add_explore(sub)

    groups = (shared.add_data, shared.add_features, shared.add_cache, shared.add_work)
    sub = _add(
        commands, "extract", "layertap.commands.extract:extract", "compute the features that the cache lacks", *groups
    )
    sub.add_argument("--plan", action="store_true", help="say what is there, what is missing and its cost, and stop")
    sub.add_argument("--batch-size", type=types.positive, metavar="N", help="images a batch (default: by size)")
    sub.add_argument(
        "--engine",
        choices=("auto", "keras", "openvino"),
        default="auto",
        help="what computes: the Keras backend, or OpenVINO on CPUs (default: auto, the faster)",
    )
    sub.add_argument(
        "--devices",
        type=types.positive,
        default=1,
        metavar="N",
        help="share the work among N GPUs or, where there is none, N groups of cores (default: 1)",
    )
    sub.add_argument("--compress", action="store_true", help="compress what is stored, without loss")

    sub = _add(
        commands,
        "train-head",
        "layertap.commands.train_head:train_head",
        "train and judge a head on cached features",
        *groups,
    )
    heads.add_targets(sub)
    head = sub.add_argument_group("head")
    heads.add_head(head)
    heads.add_choice(head)
    heads.add_protocol(head)
    head.add_argument(
        "--average-views", action="store_true", help="predict by the mean over all views, not by the plain image"
    )
    head.add_argument("--out", required=True, metavar="RUN", help="run folder to write")
    head.add_argument("--overwrite", action="store_true", help="replace a run that is there")

    text = "train the end of a net, from what the cache holds of its beginning"
    groups = (
        shared.add_data,
        partial(shared.add_features, several=False),
        shared.add_cache,
        shared.add_work,
    )
    sub = _add(commands, "fine-tune", "layertap.commands.fine_tune:fine_tune", text, *groups)
    fine_tune.add(sub)

    text, work = "judge many features with many heads, and rank them", (shared.add_cache, shared.add_work)
    sub = _add(commands, "sweep", "layertap.commands.sweep:sweep", text, shared.add_data, *work)
    heads.add_sweep(sub)

    of_run = (shared.add_run, _add_head_code)
    text = "score the head of a run on labelled images"
    _add(commands, "evaluate", "layertap.commands.evaluate:evaluate", text, *of_run, shared.add_data, *work)
    text = "predict the classes of images with a run"
    sub = _add(commands, "predict", "layertap.commands.evaluate:predict", text, *of_run, shared.add_csv, *work)
    sub.add_argument("image", nargs="+", metavar="IMAGE", help="image files, or DATA")
    sub.add_argument("--out", metavar="FILE", help="CSV file to write (default: stdout)")

    sub = _add(
        commands, "export", "layertap.commands.export:export", "write a run as one model, from pixels on", *of_run
    )
    _add_export(sub)

    _add_cache_commands(commands)
    ramp_parser.add(commands, _add)
    return parser


def _add_explore(sub: argparse.ArgumentParser) -> None:
    shared.add_decoding(sub)
    sub.add_argument(
        "--against", metavar="DATA2", help="say which images are in both (default: data/test.csv of a RAMP kit)"
    )
    sub.add_argument(
        "--size",
        type=types.size,
        help="input size of a net, 64 or 48x64, at which pixels count (default: 224)",
    )
    sub.add_argument("--out", metavar="DIR", help="folder to write with pictures and report.html (default: print only)")
    sub.add_argument("--overwrite", action="store_true", help="replace a report that is there")


def _add_head_code(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--head-code", metavar="FILE.py:NAME", help="run this file again, if it is what made the head of the run"
    )


def _add_export(sub: argparse.ArgumentParser) -> None:
    shared.add_optional_data(sub, "images on which the model is compared with the run (default: random ones)")
    sub.add_argument("--to", required=True, choices=("keras", "onnx", "openvino", "saved-model"), help="its format")
    sub.add_argument("--out", required=True, metavar="FILE", help="file to write, or folder for a saved model")
    sub.add_argument("--overwrite", action="store_true", help="replace a model that is there")


def _add_cache_commands(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "look after the cache"
    cache = commands.add_parser("cache", help=text, description="Look after the cache.")
    inner = cache.add_subparsers(title="commands", metavar="COMMAND", required=True)
    where = shared.add_cache

    _add(inner, "list", "layertap.commands.cache.spaces:list_spaces", "list the spaces of the cache", where)
    sub = _add(inner, "info", "layertap.commands.cache.spaces:info", "show the spec and segments of a space", where)
    shared.add_space(sub)

    sub = _add(
        inner,
        "verify",
        "layertap.commands.cache.spaces:verify",
        "read everything and compare it with its checks",
        where,
    )
    shared.add_spaces(sub)
    sub.add_argument("--repair", action="store_true", help="set damaged segments aside, so that their rows are missing")
    sub.add_argument("--recompute", type=types.positive, metavar="N", help="compute N random rows again, and compare")
    sub.add_argument("--images", dest="data", metavar="DATA", help="for --recompute: where the images are")
    shared.add_columns(sub)
    sub.set_defaults(images=None, split=None, range=None, pages="first", max_pixels=None)
    shared.add_seed(sub)
    shared.add_quiet(sub)

    sub = _add(
        inner,
        "compact",
        "layertap.commands.cache.maintenance:compact",
        "merge small segments and drop copies of rows",
        where,
    )
    shared.add_spaces(sub)
    packing = sub.add_mutually_exclusive_group()
    packing.add_argument("--compress", action="store_true", default=None, help="compress what is not compressed")
    packing.add_argument(
        "--no-compress", dest="compress", action="store_false", help="decompress what is, for memory maps"
    )

    sub = _add(
        inner,
        "prune",
        "layertap.commands.cache.maintenance:prune",
        "remove spaces, and what dead writers left behind",
        where,
    )
    sub.add_argument("space", nargs="*", metavar="SPACE", help="spaces to remove (see layertap cache list)")
    sub.add_argument("--older-than", type=types.days, metavar="DAYS", help="spaces not used for so long: 30, or 30d")
    sub.add_argument(
        "--max-size", type=types.bytes_, metavar="SIZE", help="least recently used spaces, down to this: 20GB"
    )
    sub.add_argument("--cited", action="store_true", help="also what runs that are kept were made of")
    sub.add_argument("--yes", action="store_true", help="do not ask")

    sub = _add(
        inner,
        "view",
        "layertap.commands.cache.export:view",
        "write one HDF5 file that shows all segments of a space",
        where,
    )
    shared.add_space(sub)
    sub.add_argument("--out", required=True, metavar="FILE", help="HDF5 file to write")
    sub.add_argument("--overwrite", action="store_true", help="replace a file that is there")

    sub = _add(
        inner, "export", "layertap.commands.cache.export:export", "write the rows of a space as one plain file", where
    )
    shared.add_space(sub)
    shared.add_optional_data(sub, "images whose rows are wanted, in their order (default: all rows)")
    sub.add_argument("--out", required=True, metavar="FILE", help="file to write: .npy, .npz, .parquet or .h5")
    sub.add_argument("--overwrite", action="store_true", help="replace a file that is there")

    sub = _add(
        inner,
        "merge",
        "layertap.commands.cache.maintenance:merge",
        "take over the spaces of another cache folder",
        where,
    )
    sub.add_argument("other", metavar="OTHER", help="the other cache folder")
    shared.add_quiet(sub)

    sub = _add(
        inner,
        "shrink",
        "layertap.commands.cache.spaces:shrink",
        "make a copy of a space in fewer bits or dimensions",
        where,
    )
    shared.add_space(sub)
    shared.add_optional_data(sub, "labelled images on which a linear head is judged before and after")
    sub.add_argument("--to", required=True, choices=("float16", "int8", "pca"), help="what to store")
    sub.add_argument("--components", type=types.positive, metavar="K", help="for pca: how many")
    shared.add_seed(sub)
    shared.add_quiet(sub)


def _add(
    to: argparse._SubParsersAction[_Parser],
    name: str,
    command: str,
    summary: str,
    *groups: Callable[[argparse.ArgumentParser], None],
) -> argparse.ArgumentParser:
    sub = to.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    sub.set_defaults(command=command, parser=sub)
    for group in groups:
        group(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else there")
    return sub


if __name__ == "__main__":
    sys.exit(main())
