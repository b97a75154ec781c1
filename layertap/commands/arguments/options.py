"""Options that several commands share, each declared once."""

from __future__ import annotations

import argparse

from feature_cache.spec import ALPHAS, FILLS, FITS, INTERPOLATIONS, POOLINGS, PRECISIONS, PREPROCESSINGS
from layertap.commands.arguments import types

POOL_HELP = "how the spatial axes, or the tokens, of a layer's output are reduced"
PREPROCESSING_HELP = "which values the net expects of pixels"


def add_data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", metavar="DATA", help="a data set: digits, a folder or a file (see layertap --help)")
    add_csv(sub)


def add_csv(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("data set")
    group.add_argument("--images", metavar="DIR", help="image folder of a CSV or COCO file, or an archive")
    add_columns(group)
    group.add_argument(
        "--split", metavar="NAME", help="part to read of a data set that comes divided: train, val or test"
    )
    group.add_argument(
        "--range",
        type=types.value_range,
        metavar="LOW,HIGH",
        help="numbers that are black and white in arrays whose dtype does not tell: --range=-1,1",
    )
    group.add_argument(
        "--pages",
        choices=("first", "all", "channels"),
        default="first",
        help="what is read of files with several pages: the first page; all, each as an image FILE#PAGE; or all as "
        "the channels of one image (default: first)",
    )
    group.add_argument(
        "--crops",
        action="store_true",
        help="make each box of COCO or YOLO an image FILE#LEFT,TOP,WIDTH,HEIGHT of the class of the box",
    )
    group.add_argument(
        "--max-pixels",
        type=types.positive,
        metavar="N",
        help="images of more pixels are not decoded (default: 178,956,970)",
    )
    group.add_argument(
        "--corrections",
        metavar="FILE",
        help="CSV file of layertap review that says which images are dropped and which get another label",
    )


def add_columns(sub: argparse._ActionsContainer) -> None:
    sub.add_argument(
        "--class-column", default="class", metavar="NAME", help="column of the classes in a CSV file (default: class)"
    )
    sub.add_argument("--id-column", default="id", metavar="NAME", help="column of the file names (default: id)")


def add_features(sub: argparse.ArgumentParser) -> None:
    """Add what says which features of one net are used: several layers, each by `--layer`."""
    _add_features_of_net(sub, "name or index of a layer; may be repeated (default: the net's usual one)")


def add_one_layer(sub: argparse.ArgumentParser) -> None:
    """Add what says which features of one net are used: in the end those of a single layer."""
    _add_features_of_net(
        sub,
        "name or index of the layer that the classifier reads; of several, the one on which a head is best (default: "
        "of the net's usual one and one before)",
    )


def _add_features_of_net(sub: argparse.ArgumentParser, layer_help: str) -> None:
    group = sub.add_argument_group("features")
    add_space_choice(group)
    add_net(group)
    group.add_argument("--layer", action="append", default=[], metavar="L", help=layer_help)
    add_output(group)
    _add_pixels(group)
    _add_numbers(group)


def add_several_nets(sub: argparse.ArgumentParser) -> None:
    """Add what says which features of several nets are used, in all combinations."""
    group = sub.add_argument_group(
        "features", "--net, --layer, --pool and --size may be repeated; all combinations are judged"
    )
    group.add_argument(
        "--net",
        action="append",
        default=[],
        metavar="NET",
        help="name (see layertap nets), hub:PRESET, run, file (.keras, .onnx ...), FILE.py:make_net; default: glyphnet",
    )
    group.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="L",
        help="layer of the net, or NET:LAYER where there are several nets",
    )
    group.add_argument(
        "--pool", action="append", default=[], choices=POOLINGS, help=f"{POOL_HELP} (default: the net's usual one)"
    )
    _add_prefix_tokens(group)
    group.add_argument(
        "--size",
        action="append",
        default=[],
        type=types.size,
        metavar="SIZE",
        help="input size (default: the net's own)",
    )
    _add_for_each_net(group)
    _add_pixels(group)
    _add_numbers(group)
    group.add_argument(
        "--join",
        action="append",
        default=[],
        metavar="L+M",
        help="judge the features of these layers side by side, besides each layer alone",
    )
    group.add_argument("--extract", action="store_true", help="extract what is missing even if no net is named")


def _add_for_each_net(group: argparse._ActionsContainer) -> None:
    """Add the options that may be given for one net, as NET=VALUE, and what holds for all."""
    add_trust(group)
    group.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="W",
        help="weights of all nets, as of extract, or NET=W for one of them; may be repeated",
    )
    group.add_argument(
        "--preprocessing",
        action="append",
        default=[],
        metavar="P",
        help=f"{PREPROCESSING_HELP}, {', '.join(PREPROCESSINGS)}: P for all nets, or NET=P for one; may be repeated",
    )


def add_space_choice(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--space",
        metavar="SPACE",
        help="take the features of this space of the cache; then none of the options below is needed",
    )


def add_net(group: argparse._ActionsContainer) -> None:
    """Add what says which net is used."""
    group.add_argument(
        "--net",
        help="name (see layertap nets), hub:PRESET, run, file (.keras, .onnx ...), FILE.py:make_net; default: glyphnet",
    )
    group.add_argument(
        "--weights",
        metavar="W",
        help="imagenet, none (random, by --seed) or a weights file (default: imagenet; glyphnet has its own)",
    )
    add_trust(group)


def add_trust(group: argparse._ActionsContainer) -> None:
    """Add what says whose layers a net's file may name."""
    group.add_argument(
        "--trust",
        action="append",
        metavar="MODULE",
        help="module of Python, which is imported, whose layers a .keras file may name; may be repeated (default: "
        "$LAYERTAP_TRUST, or none)",
    )


def add_output(group: argparse._ActionsContainer) -> None:
    """Add what says how a layer's output is pooled, and which input the net is given."""
    group.add_argument("--pool", choices=POOLINGS, help=f"{POOL_HELP} (default: the net's usual one)")
    _add_prefix_tokens(group)
    group.add_argument("--size", type=types.size, help="input size in pixels, 64 or 48x64 (default: the net's own)")
    group.add_argument(
        "--preprocessing",
        choices=PREPROCESSINGS,
        help=f"{PREPROCESSING_HELP} (default: the net's own, which a file tells by its layers)",
    )


def _add_prefix_tokens(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--prefix-tokens",
        type=types.count,
        metavar="N",
        help="number of tokens before those of the patches: class token, registers (default: what the net tells)",
    )


def _add_pixels(group: argparse._ActionsContainer) -> None:
    """Add what says how images become pixels of the net's input."""
    group.add_argument(
        "--fit",
        choices=FITS,
        help="how images of another shape are fitted to the input (default: stretch, or as a preset of KerasHub says)",
    )
    group.add_argument(
        "--fill",
        choices=FILLS,
        help="what pad fills the rest of the input with (default: gray, or as a preset of KerasHub says)",
    )
    group.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        help="how images are resized (default: bilinear, or as a preset of KerasHub says)",
    )
    group.add_argument(
        "--transform",
        metavar="FILE.py",
        help="run this file of yours, whose function transform, or that of FILE.py:NAME, changes each image before it "
        "is fitted to the input: uint8 of height x width x 3 in and out",
    )
    add_decoding(group)


def _add_numbers(group: argparse._ActionsContainer) -> None:
    """Add what says how features are computed and stored, and of which views."""
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="precision of the computation; fewer bits are faster on some hardware, int8 on CPUs (default: float32)",
    )
    group.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="type of stored features (default: float32)"
    )
    group.add_argument(
        "--views",
        type=types.positive,
        default=1,
        metavar="K",
        help="number of views of each image; the first is the image itself (default: 1)",
    )
    group.add_argument(
        "--augment",
        metavar="A",
        help="how the other views are made, some or all of: "
        "flip,vflip,rotate=15,shift=0.1,zoom=0.1,brightness=0.1,contrast=0.1",
    )
    group.add_argument(
        "--seed",
        type=types.seed,
        default=0,
        metavar="N",
        help="seed of random weights, views and splits (default: 0)",
    )


def add_decoding(sub: argparse._ActionsContainer) -> None:
    sub.add_argument(
        "--alpha",
        choices=ALPHAS,
        default="white",
        help="what is behind transparent pixels; ignore drops a fourth band that is not transparency (default: white)",
    )
    levels = sub.add_mutually_exclusive_group()
    levels.add_argument(
        "--depth",
        type=types.depth,
        metavar="BITS",
        help="number of bits used in images of more than 8 bits: --depth 12 means --window 0,4095",
    )
    levels.add_argument(
        "--window",
        type=types.window,
        metavar="LOW,HIGH",
        help="values that become black and white in images of more than 8 bits, or percentiles: the 1st and 99th of "
        "each image (default: the full range of their integers)",
    )


def add_cache(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--cache",
        metavar="DIR",
        help="cache folder, or a URL such as s3://BUCKET/FOLDER (default: $LAYERTAP_CACHE, or ./features)",
    )


def add_work(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--on-error",
        choices=("fail", "skip"),
        default="fail",
        help="what to do about an unreadable image: stop, or leave it out (default: fail)",
    )
    add_quiet(sub)


def add_ray(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        type=types.ray_address,
        metavar="HOST:PORT",
        help="have the workers of a Ray cluster compute features, into a cache folder that they share (without an "
        "address: the cluster of $RAY_ADDRESS or of this machine, or else a new one on it)",
    )


def add_quiet(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--quiet", action="store_true", help="show no progress")


def add_seed(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--seed", type=types.seed, default=0, metavar="N", help="seed of random choices (default: 0)")


def add_optional_data(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("data", nargs="?", metavar="DATA", help=text)
    add_csv(sub)


def add_space(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("space", metavar="SPACE", help="name of a space (see layertap cache list)")


def add_spaces(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("space", nargs="*", metavar="SPACE", help="names of spaces (default: all)")


def add_run(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run", metavar="RUN", help="folder of a run")
    add_trust(sub)


def add_head_code(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--head-code",
        metavar="FILE.py:NAME",
        help="run this file of yours, with which the head of the run was made",
    )


def add_transform_code(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--transform-code",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="run this function of yours, which changes the images of the run; may be repeated",
    )


def add_net_code(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--net-code",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="run this function of yours, which returns the net of the run; may be repeated",
    )


CODE_OF_RUNS = (add_head_code, add_net_code, add_transform_code)  # code of the user's that a run may need
