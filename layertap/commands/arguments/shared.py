"""Arguments that several commands share, and the objects that they become."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice, MissingFeatures
from feature_cache.spec import ALPHAS, FITS, INTERPOLATIONS, POOLINGS, PRECISIONS, PREPROCESSINGS
from layertap.commands.arguments import types
from layertap.commands.terminal.output import Progress, print_notes

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from layertap.workflows.load_dataset import Source
    from transfer.data.datasets import Dataset
    from transfer.data.images import Decoding
    from transfer.extraction.lookup import FeatureSet
    from transfer.extraction.request import FeatureRequest
    from transfer.nets.catalogue import Net

DEFAULT_CACHE = "./features"
# The arguments that name features, with their defaults.
FEATURES: dict[str, Any] = {
    "net": "glyphnet",
    "weights": None,
    "layer": [],
    "pool": None,
    "size": None,
    "fit": "stretch",
    "interpolation": "bilinear",
    "alpha": "white",
    "depth": None,
    "window": None,
    "preprocessing": None,
    "precision": "float32",
    "dtype": "float32",
    "augment": None,
}


def add_data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", metavar="DATA", help="digits, a folder or a file (see layertap --help)")
    add_csv(sub)


def add_csv(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--images", metavar="DIR", help="image folder of a CSV file")
    add_columns(sub)
    sub.add_argument("--split", metavar="NAME", help="part of a data set that comes divided: train, val, test")
    sub.add_argument(
        "--range",
        type=types.value_range,
        metavar="LOW,HIGH",
        help="numbers that are black and white in arrays whose dtype does not say it: --range=-1,1",
    )
    sub.add_argument(
        "--pages",
        choices=("first", "all", "channels"),
        default="first",
        help="of files of several pages: the first one, each as an image FILE#PAGE, or all as channels of one image "
        "(default: first)",
    )
    sub.add_argument(
        "--max-pixels",
        type=types.positive,
        metavar="N",
        help="most pixels of an image that are decoded (default: 178,956,970)",
    )


def add_columns(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--class-column", default="class", metavar="NAME", help="column of the classes in a CSV file (default: class)"
    )
    sub.add_argument("--id-column", default="id", metavar="NAME", help="column of the file names (default: id)")


def add_features(sub: argparse.ArgumentParser, *, several: bool = True) -> None:
    group = sub.add_argument_group("features")
    group.add_argument(
        "--space", metavar="SPACE", help="those of a space of the cache, instead of all of the following but --seed"
    )
    group.add_argument(
        "--net",
        default="glyphnet",
        help="name (see layertap nets), .keras or .h5 file, or run of fine-tune (default: glyphnet)",
    )
    group.add_argument(
        "--weights",
        metavar="W",
        help="imagenet, none (random, by --seed) or a weights file (default: imagenet; glyphnet has its own)",
    )
    group.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="L",
        help=f"name or index of {'a layer; may be repeated' if several else 'one layer'} (default: the net's readout)",
    )
    group.add_argument("--pool", choices=POOLINGS, help="what to do with the spatial axes (default: the net's custom)")
    group.add_argument("--size", type=types.size, help="input size in pixels, 64 or 48x64 (default: the net's own)")
    group.add_argument(
        "--fit", choices=FITS, default="stretch", help="how images of another shape are fitted to it (default: stretch)"
    )
    group.add_argument(
        "--interpolation", choices=INTERPOLATIONS, default="bilinear", help="how images are resized (default: bilinear)"
    )
    add_decoding(group)
    group.add_argument(
        "--preprocessing",
        choices=PREPROCESSINGS,
        help="what the net expects pixels to become (default: the net's own; none, 0 to 255, for a file)",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="what to compute in; fewer bits where the hardware gains by it (default: float32)",
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="what to store features as (default: float32)",
    )
    group.add_argument(
        "--views",
        type=types.positive,
        default=1,
        metavar="K",
        help="of each image, the plain one first (default: 1)",
    )
    group.add_argument(
        "--augment",
        metavar="A",
        help="how the other views differ: flip,vflip,rotate=15,shift=0.1,zoom=0.1,brightness=0.1,contrast=0.1, or some",
    )
    group.add_argument(
        "--seed",
        type=types.seed,
        default=0,
        metavar="N",
        help="of random weights, views and splits (default: 0)",
    )


def add_decoding(sub: argparse._ActionsContainer) -> None:
    sub.add_argument(
        "--alpha",
        choices=ALPHAS,
        default="white",
        help="what transparent pixels are laid over; ignore drops a fourth band that is none (default: white)",
    )
    levels = sub.add_mutually_exclusive_group()
    levels.add_argument(
        "--depth",
        type=types.depth,
        metavar="BITS",
        help="how many bits are used in images of more than 8 bits: 12, as --window 0,4095",
    )
    levels.add_argument(
        "--window",
        type=types.window,
        metavar="LOW,HIGH",
        help="values that become black and white in images of more than 8 bits, or percentiles, the 1st and 99th of "
        "each image (default: the full range of their integers)",
    )


def add_cache(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--cache",
        default=os.environ.get("LAYERTAP_CACHE") or DEFAULT_CACHE,
        metavar="DIR",
        help="cache folder (default: $LAYERTAP_CACHE, or ./features)",
    )


def add_work(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--on-error",
        choices=("fail", "skip"),
        default="fail",
        help="what to do about an unreadable image (default: fail)",
    )
    add_quiet(sub)


def add_quiet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quiet", action="store_true", help="show no progress")


def add_seed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--seed", type=types.seed, default=0, metavar="N", help="of random choices (default: 0)")


def add_optional_data(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("data", nargs="?", metavar="DATA", help=text)
    add_csv(sub)


def add_space(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("space", metavar="SPACE", help="name of a space (see layertap cache list)")


def add_spaces(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("space", nargs="*", metavar="SPACE", help="names of spaces (default: all)")


def add_run(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", metavar="RUN", help="run folder")


def dataset(args: argparse.Namespace) -> Dataset:
    return load(args, args.data)


def load(args: argparse.Namespace, source: Source) -> Dataset:
    """The data set that `source` names, by the options of `args`; its notes go to stderr."""
    from layertap.workflows.load_dataset import load_dataset

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
    )
    print_notes(dataset.notes)
    return dataset


def read_as(args: argparse.Namespace, dataset: Dataset) -> Dataset:
    """The data set with an image for each page, and with another limit on pixels, where `args` say so."""
    return load(args, dataset)


def optional_dataset(args: argparse.Namespace) -> Dataset | None:
    return dataset(args) if args.data is not None else None


def net(args: argparse.Namespace) -> Net:
    from transfer.nets.catalogue import Net

    if (tuned := tuned_net(args.net)) is None:
        return Net(args.net, args.weights, args.seed, args.preprocessing)
    if args.weights is not None:
        raise InvalidChoice(f"{args.net} holds its own weights; leave out --weights.")
    return replace(tuned, preprocessing=args.preprocessing or tuned.preprocessing)


def tuned_net(name: str) -> Net | None:
    """The net of a run, where `name` is a folder that may be one; None otherwise."""
    from transfer.nets.catalogue import NETS
    from transfer.nets.files.kinds import not_taken

    if name.lower() in NETS or not Path(name).is_dir() or not_taken(name):
        return None
    from transfer.finetune.saved_net import net_of_run

    return net_of_run(Path(name))


def request(args: argparse.Namespace) -> FeatureRequest:
    from transfer.extraction.request import FeatureRequest, request_of

    if args.space:
        given = [name for name, default in FEATURES.items() if getattr(args, name) != default]
        given += ["pages"] * (args.pages == "channels")
        if given:
            raise InvalidChoice(f"--space {args.space} says it all; leave out --{given[0]}.")
        return request_of(cache(args).open(args.space), args.views)
    return FeatureRequest(
        net(args),
        tuple(args.layer),
        args.pool,
        args.size,
        args.fit,
        args.interpolation,
        args.precision,
        args.dtype,
        augmentation=augmentation(args),
        views=args.views,
        alpha=args.alpha,
        pages=decoding(args).pages,
        window=decoding(args).window,
    )


def decoding(args: argparse.Namespace) -> Decoding:
    """How images are decoded, by the arguments of `add_decoding` and ``--pages``."""
    from transfer.data.images import Decoding

    named = args.window if args.depth is None else f"0,{2**args.depth - 1}"
    return Decoding(args.alpha, "channels" if args.pages == "channels" else "first", named)


def augmentation(args: argparse.Namespace) -> str | None:
    """How views differ, as specs have it; None where there is only the plain one."""
    from transfer.data.augment import Augmentation

    if args.augment is None:
        return None
    if args.views == 1:
        raise InvalidChoice("--augment says how views differ, and there is only the plain one; add --views K.")
    return Augmentation.parse(args.augment, args.seed).key


def cache(args: argparse.Namespace) -> FeatureCache:
    from feature_cache.cache import FeatureCache

    return FeatureCache(Path(args.cache))


def cached(args: argparse.Namespace, data: Dataset, wanted: FeatureRequest, where: FeatureCache) -> FeatureSet:
    """The features in the cache; an error that some are missing names the command that computes them."""
    from transfer.extraction.lookup import stored_features

    try:
        return stored_features(data, wanted, where, on_error=args.on_error)
    except MissingFeatures as error:
        _check_layers(wanted)
        raise MissingFeatures(f"{error} Compute them with: {shlex.join(extract_command(args))}") from error


def extracted(
    args: argparse.Namespace, data: Dataset, wanted: FeatureRequest, where: FeatureCache, *, compress: bool = False
) -> FeatureSet:
    """The features in the cache, once what it lacks has been computed."""
    from transfer.extraction.extract import extract
    from transfer.extraction.lookup import stored_features

    with Progress("images", args.quiet) as progress:
        report = extract(data, wanted, where, on_error=args.on_error, compress=compress, progress=progress)
    print_notes(report.remarks)
    return stored_features(data, wanted, where, on_error=args.on_error)


def _check_layers(wanted: FeatureRequest) -> None:
    """Raise InvalidChoice when features are missing because there is no such layer."""
    net = wanted.net if wanted.net.is_file else replace(wanted.net, weights="none")  # names need no weights
    with contextlib.suppress(ModuleNotFoundError):
        _ = replace(wanted, net=net).backbone


def extract_command(args: argparse.Namespace) -> list[str]:
    """The ``extract`` command for the features that `args` name."""
    words: list[Any] = ["layertap", "extract", args.data]
    if args.space:
        words += ["--space", args.space]
    else:
        words += ["--net", args.net]
        for layer in args.layer:
            words += ["--layer", layer]
        if args.size:
            words += ["--size", f"{args.size[0]}x{args.size[1]}"]
    rest = {name: default for name, default in FEATURES.items() if name not in ("net", "layer", "size")}
    defaults: dict[str, Any] = {"images": None, "class_column": "class", "id_column": "id", "split": None}
    defaults |= {"pages": "first", "max_pixels": None, "views": 1, **rest}
    if args.range:
        words.append(f"--range={args.range[0]:g},{args.range[1]:g}")
    for name, default in defaults.items():
        if getattr(args, name) != default:
            words += [f"--{name.replace('_', '-')}", getattr(args, name)]
    if (args.weights == "none" or args.augment) and args.seed:
        words += ["--seed", args.seed]
    if args.on_error != "fail":
        words += ["--on-error", args.on_error]
    if args.cache != (os.environ.get("LAYERTAP_CACHE") or DEFAULT_CACHE):
        words += ["--cache", args.cache]
    return [str(word) for word in words]
