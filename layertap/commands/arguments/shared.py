"""From the arguments of a command to the objects that they name: data sets, nets, features and caches."""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, MissingFeatures, StorageFailure
from feature_cache.files.urls import shown
from layertap import flags
from layertap.commands.terminal.output import print_notes
from layertap.commands.terminal.scores import print_remarks
from layertap.progress.shown import ShownProgress
from transfer.data.transforms import Transform, named
from transfer.nets.files.kinds import not_taken

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from layertap.runs import Run
    from layertap.workflows.load_dataset import Source
    from layertap.workflows.training.protocol_options import ProtocolOptions
    from transfer.data.datasets import Dataset
    from transfer.data.images import Decoding
    from transfer.extraction.feature_set import FeatureSet
    from transfer.nets.catalogue import Net
    from transfer.request import FeatureRequest

DEFAULT_NET = "glyphnet"
# The arguments that name features, with their defaults.
FEATURES: dict[str, Any] = {
    "net": None,
    "weights": None,
    "layer": [],
    "pool": None,
    "prefix_tokens": None,
    "size": None,
    "fit": None,
    "fill": None,
    "interpolation": None,
    "alpha": "white",
    "depth": None,
    "window": None,
    "transform": None,
    "preprocessing": None,
    "precision": "float32",
    "dtype": "float32",
    "augment": None,
}


def dataset(args: argparse.Namespace) -> Dataset:
    return load(args, args.data)


def load_other(args: argparse.Namespace, source: Source) -> Dataset:
    """A data set beside the one of a command, whose folder of images, split and corrections say nothing about it."""
    own = {"images": None, "split": None, "corrections": None, "crops": crops_of(args, source)}
    return load(argparse.Namespace(**{**vars(args), **own}), source)


def crops_of(args: argparse.Namespace, source: Source) -> bool:
    """Whether the boxes of another data set are its images: where `args` say so, and it has some."""
    from transfer.data.datasets import has_boxes  # slow to load, and the help does not need it
    from transfer.data.remote.places import at  # as slow

    return args.crops and isinstance(source, str) and has_boxes(at(source))


def load(args: argparse.Namespace, source: Source) -> Dataset:
    """The data set that `source` names, by the options of `args`; its notes go to stderr."""
    from layertap.workflows.load_dataset import load_dataset  # slow to load, and the help does not need it

    if args.pages == "channels" and not hasattr(args, "alpha"):
        raise InvalidChoice("--pages channels is part of the features, and the run has its own; leave it out.")
    dataset = load_dataset(
        source,
        images=args.images,
        class_column=args.class_column,
        id_column=args.id_column,
        split=args.split,
        value_range=args.range,
        pages="all" if args.pages == "all" else "first",
        max_pixels=args.max_pixels,
        crops=args.crops,
        corrections=args.corrections,
    )
    flags.mention("--multilabel")  # of train-head: notes name it
    print_notes(dataset.notes)
    return dataset


def read_as(args: argparse.Namespace, dataset: Dataset) -> Dataset:
    """The data set with an image for each page, and with another limit on pixels, where `args` say so."""
    return load(args, dataset)


def optional_dataset(args: argparse.Namespace) -> Dataset | None:
    return dataset(args) if args.data is not None else None


def net(args: argparse.Namespace) -> Net:
    return _net(args.net or DEFAULT_NET, args.weights, args.seed, args.preprocessing)


def _net(name: str, weights: str | None, seed: int, preprocessing: str | None) -> Net:
    from transfer.nets.catalogue import Net  # slow to load, and the help does not need it

    if (tuned := tuned_net(name)) is None:
        return Net(name, weights, seed, preprocessing)
    if weights is not None:
        raise InvalidChoice(f"{name} holds its own weights; leave out --weights.")
    return replace(tuned, preprocessing=preprocessing or tuned.preprocessing)


def values_of_nets(values: Sequence[str], nets: Sequence[str]) -> dict[str, str | None]:
    """The value for each net among those of a repeated option, which are ``VALUE`` for all nets, or ``NET=VALUE``.

    Parameters
    ----------
    nets : sequence of str
        All nets that are named.
    """
    return {net: _of_net(values, net, nets) for net in nets}


def _of_net(values: Sequence[str], name: str, nets: Sequence[str]) -> str | None:
    """The value for one net among ``VALUE``, for all nets, and ``NET=VALUE``; the last one of a kind counts."""
    of_all = of_this = None
    for text in values:
        net, sign, value = text.partition("=")
        if not (sign and net in nets):
            of_all = text
        elif net == name:
            of_this = value
    return of_all if of_this is None else of_this


def _pixels_and_numbers(args: argparse.Namespace) -> dict[str, Any]:
    """How images become pixels, and how features are computed and stored: fields of a `FeatureRequest`."""
    decoded = decoding(args)
    return {
        **{name: getattr(args, name) for name in ("precision", "dtype", "views")},
        **{name: getattr(args, name) or "" for name in ("fit", "fill", "interpolation")},
        "augmentation": augmentation(args),
        "alpha": decoded.alpha,
        "pages": decoded.pages,
        "window": decoded.window,
        "transform": transform(args),
        "prefix_tokens": prefix_tokens(args),
    }


def transform(args: argparse.Namespace) -> Transform | None:
    """The function of the user's that changes images; its file is run."""
    return None if args.transform is None else named(args.transform)


def prefix_tokens(args: argparse.Namespace) -> Literal["auto"] | int:
    """How many tokens are no patches, as a `FeatureRequest` has it."""
    return "auto" if args.prefix_tokens is None else int(args.prefix_tokens)


def tuned_net(name: str) -> Net | None:
    """The net of a run, where `name` is a folder that may be one; None otherwise."""
    from transfer.nets.catalogue import NETS  # slow to load, and the help does not need it

    if name.lower() in NETS or not Path(name).is_dir() or not_taken(name):
        return None
    from layertap.runs import net_of_run  # slow to load, and the help does not need it

    return net_of_run(Path(name))


def net_and_layer(name: str, seed: int) -> tuple[Net, str]:
    """The net and the layer of ``NET:LAYER``; the layer is empty where there is none.

    Nets (``hub:PRESET``, ``FILE.py:make_net``, ``C:\\net.keras``) and layers (``conv:2``) may have colons of their own:
    the net is the shortest part before a colon that is one.
    """
    from transfer.nets.catalogue import Net  # slow to load, and the help does not need it
    from transfer.nets.user_nets import is_code, names_function

    parts = name.split(":")
    ends = range(2 if len(parts) > 1 and parts[0] == "hub" else 1, len(parts) + 1)
    mistakes: list[InvalidChoice] = []
    for end in ends:
        text, layer = ":".join(parts[:end]), ":".join(parts[end:])
        if end < len(parts) and names_function(f"{text}:{parts[end]}"):
            continue
        if mistakes and is_code(text) and not names_function(text):
            continue
        try:
            return tuned_net(text) or Net(text, None, seed), layer
        except InvalidChoice as error:
            mistakes.append(error)
    raise mistakes[-2:][0]  # about the part before the last colon


def request(args: argparse.Namespace) -> FeatureRequest:
    from transfer.request import FeatureRequest, request_of  # slow to load, and the help does not need it

    if args.space:
        own = {name: default for name, default in FEATURES.items() if name != "transform"}
        given = [name for name, default in own.items() if getattr(args, name) != default]
        given += ["pages"] * (args.pages == "channels")
        if given:
            raise InvalidChoice(f"--space {args.space} says it all; leave out --{given[0]}.")
        changed = transform(args)  # its code is named, and may be run: the space says that it is the one
        stored = request_of(cache(args).open(args.space), args.views)
        if changed not in (None, stored.transform):
            raise InvalidChoice(
                f"the images of --space {args.space} are not changed by {changed}; leave out --transform."
            )
        return stored
    return FeatureRequest(net(args), tuple(args.layer), args.pool, args.size, **_pixels_and_numbers(args))


def decoding(args: argparse.Namespace) -> Decoding:
    """How images are decoded, by the arguments of `add_decoding` and ``--pages``."""
    from transfer.data.images import Decoding  # slow to load, and the help does not need it

    named = args.window if args.depth is None else f"0,{2**args.depth - 1}"
    return Decoding(args.alpha, "channels" if args.pages == "channels" else "first", named)


def augmentation(args: argparse.Namespace) -> str | None:
    """How views differ, as specs have it; None where there is only the plain one."""
    from transfer.data.augment import Augmentation  # slow to load, and the help does not need it

    if args.augment is None:
        return None
    if args.views == 1:
        raise InvalidChoice("--augment says how views differ, and there is only the plain one; add --views K.")
    return Augmentation.parse(args.augment, args.seed).key


def cache(args: argparse.Namespace) -> FeatureCache:
    from feature_cache.cache import as_cache  # which loads h5py

    return as_cache(args.cache)


def extraction_options(args: argparse.Namespace, remedy: str) -> dict[str, Any]:
    """The parameters of a workflow that say how a command extracts what the cache lacks, and shows it.

    Where no net, layer or space is named, and none of the images has features, the default net computes them, unless
    the cache has features by other nets: then one of these may be meant, and that is an error.

    Parameters
    ----------
    remedy : str
        How they are computed all the same, as the end of a sentence.
    """
    named = any(getattr(args, name, None) for name in ("net", "layer", "space", "extract"))

    headlines: list[str] = []

    def announce(wanted: FeatureRequest, images: int, of: int) -> None:
        features = f"{wanted.net.name} ({', '.join(spec.layer for spec in wanted.specs)})"
        others = [] if named or images < of else _nets_in(cache(args), but=wanted.net.name)
        if others:
            raise MissingFeatures(
                f"none of these {of:,} images has features by {features} in the cache {cache(args)}, and no net "
                f"is named. Choose one with `net` (the cache has features by {' and '.join(others[:3])}), or compute "
                f"these {remedy}"
            )
        count = f"{images:,} image{'s' * (images != 1)}" + (f" of {of:,}" if images < of else "")
        default = "" if named else ", the default net"
        headlines.append(f"Extracting the features of {count} by {features}{default}.")

    progress = partial(ShownProgress, quiet=args.quiet, headlines=headlines)
    return {"progress": progress, "before_extraction": announce}


def _nets_in(store: FeatureCache, but: str) -> list[str]:
    """The nets whose features a cache has, without one of them."""
    nets = set()
    for name in store.spaces():
        with contextlib.suppress(DamagedFile):
            nets.add(store.open(name).spec.net)
    return sorted(nets - {but})


def extracted(
    args: argparse.Namespace, data: Dataset, wanted: FeatureRequest, where: FeatureCache, *, compress: bool = False
) -> FeatureSet:
    """The features in the cache, once what it lacks has been computed."""
    from layertap.workflows.extract import extract_features  # slow to load, and the help does not need it

    progress = partial(ShownProgress, quiet=args.quiet)
    features = extract_features(data, wanted, where, on_error=args.on_error, compress=compress, progress=progress)
    if features.report:
        print_remarks(features.report.remarks, features.report.warnings)
    return features


def extract_command(args: argparse.Namespace) -> list[str]:
    """The ``extract`` command for the features that `args` name."""
    from feature_cache.cache import as_cache, default_cache  # which load h5py

    words: list[Any] = ["layertap", "extract", shown(str(args.data))]
    if args.space:
        words += ["--space", args.space]
    else:
        words += ["--net", args.net or DEFAULT_NET]
        for layer in args.layer:
            words += ["--layer", layer]
        if args.size:
            words += ["--size", f"{args.size[0]}x{args.size[1]}"]
    rest = {name: default for name, default in FEATURES.items() if name not in ("net", "layer", "size")}
    defaults: dict[str, Any] = {"images": None, "class_column": "class", "id_column": "id", "split": None}
    defaults |= {"pages": "first", "max_pixels": None, "corrections": None, "views": 1, **rest}
    words += ["--crops"] if args.crops else []
    if args.range:
        words.append(f"--range={args.range[0]:g},{args.range[1]:g}")
    for name, default in defaults.items():
        if getattr(args, name) != default:
            words += [f"--{name.replace('_', '-')}", getattr(args, name)]
    if (args.weights == "none" or args.augment) and args.seed:
        words += ["--seed", args.seed]
    if args.on_error != "fail":
        words += ["--on-error", args.on_error]
    if as_cache(args.cache) != default_cache():
        words += ["--cache", args.cache]
    return [str(word) for word in words]


def free_name(name: str) -> str:
    """`name`, or with a number behind it where there is a file or a folder of that name already.

    Examples
    --------
    >>> free_name("no such folder")
    'no such folder'
    """
    return next(name for name in numbered(name) if not Path(name).exists())


def numbered(name: str) -> Iterator[str]:
    """`name`, ``name-2``, ``name-3`` and so on."""
    return itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))


@contextlib.contextmanager
def named_run(args: argparse.Namespace) -> Iterator[None]:
    """Let ``args.out`` be a new folder, where none was given; it is removed in the end if the run is not in it.

    Commands that run at the same time have folders of their own.

    Raises
    ------
    InvalidChoice
        When a run is to be replaced, and not named.
    StorageFailure
        When the folder cannot be made.
    """
    if args.out is not None:
        yield
        return
    if args.overwrite:
        raise InvalidChoice("--overwrite replaces the run that --out names; name it.")
    args.out = _make_folder("run")
    folder = Path(args.out).absolute()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make_folder(name: str) -> str:
    """The first of some numbered names that no other process has or makes."""
    for folder in numbered(name):
        try:
            Path(folder).mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageFailure(
                f"cannot write to {folder}: {error.strerror or error}; choose another `out`."
            ) from error
        return folder
    raise AssertionError("there are always more numbers")


def require_tracking(args: argparse.Namespace) -> None:
    """Raise an error unless the tool of ``--tracking`` is there, before anything is computed."""
    if args.tracking:
        from layertap.tracking.track import require_tool  # slow to load, and seldom needed

        require_tool(args.tracking)


def track(args: argparse.Namespace, run: Run | None) -> tuple[str, LayertapError | None]:
    """Log a run that a command has written with the tool of ``--tracking``, if there is one.

    Returns
    -------
    where : str
        Where it is; empty without a tool, and where it failed.
    failure : LayertapError or None
        What failed; to be raised once the command has printed the scores, which do not depend on it.
    """
    if run is None or not args.tracking:
        return "", None
    from layertap.tracking.track import track  # slow to load, and seldom needed

    try:
        return track(run, args.tracking), None
    except LayertapError as error:
        return "", error


def using_options(args: argparse.Namespace) -> list[str]:
    """What a command that uses the run of this one needs to be given, too."""
    from feature_cache.cache import as_cache, default_cache  # which load h5py

    words = ["--cache", args.cache] if as_cache(args.cache) != default_cache() else []
    head = getattr(args, "head", None) or ""
    words += ["--transform-code", args.transform] if getattr(args, "transform", None) else []
    return words + (["--head-code", head] if ".py:" in head else [])


def code(args: argparse.Namespace) -> dict[str, Any]:
    """The user's code that a run may need, as `layertap.load_run` takes it."""
    names = ("head_code", "net_code", "transform_code")
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def protocol_options(args: argparse.Namespace) -> ProtocolOptions:
    """The options of a protocol among the arguments of a command."""
    from layertap.workflows.training.protocol_options import ProtocolOptions  # which loads scikit-learn

    chosen = {field.name: getattr(args, field.name) for field in fields(ProtocolOptions) if hasattr(args, field.name)}
    return ProtocolOptions(**chosen)
