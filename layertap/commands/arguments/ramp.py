"""Arguments of the commands for RAMP kits and submissions."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import options, types
from layertap.commands.arguments.parser import Parser, add_command


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `layertap ramp` and its commands."""
    text = "make RAMP kits and submissions, and test them"
    ramp = commands.add_parser("ramp", help=text, description=f"{text[0].upper()}{text[1:]}.")
    inner = ramp.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_kit(inner)
    _add_init(inner)
    _add_test(inner)


def _add_kit(commands: argparse._SubParsersAction[Parser]) -> None:
    sub = add_command(
        commands,
        "kit",
        "layertap.commands.ramp.kit:kit",
        "make a RAMP kit of a labelled data set",
        everyday="images test folds workflow overwrite json",
        examples=(("ramp kit mnist --data digits", "a kit of the built-in digits, in the folder mnist"),),
        next_step="layertap ramp init KIT --name NAME, then layertap ramp test KIT",
    )
    sub.add_argument("out", metavar="OUT", help="folder to write")
    sub.add_argument("--data", required=True, metavar="DATA", help="digits, a folder, or a CSV file")
    options.add_csv(sub)
    options.add_decoding(sub)
    sub.add_argument("--test", type=float, default=0.2, metavar="F", help="share of the test images (default: 0.2)")
    sub.add_argument(
        "--folds",
        type=types.positive,
        metavar="K",
        help="folds of the cross-validation (default: one split, a share of 0.2)",
    )
    sub.add_argument(
        "--workflow",
        choices=("layertap", "rampwf"),
        default="layertap",
        help="whose ImageClassifier trains and tests submissions (default: layertap)",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing kit, keeping the submissions to it")
    options.add_seed(sub)
    options.add_quiet(sub)


def _add_init(commands: argparse._SubParsersAction[Parser]) -> None:
    sub = add_command(
        commands,
        "init",
        "layertap.commands.ramp.kit:init",
        "write a submission that reads the features of a net",
        everyday="net layer pool size head param fine_tune overwrite json",
        examples=(("ramp init mnist --name vgg --net vgg16 --head ridge", "a ridge head on features of VGG16"),),
        next_step="layertap ramp test KIT",
    )
    sub.add_argument("kit", metavar="KIT", help="folder of the kit")
    sub.add_argument("--name", required=True, metavar="S", help="name of the submission")
    options.add_net(sub)
    sub.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="L",
        help="layer whose features are read; may be repeated (default: the net's readout)",
    )
    options.add_output(sub)
    _add_head(sub)
    sub.add_argument(
        "--fine-tune", action="store_true", help="also train the last layers of the net, starting from the head"
    )
    sub.add_argument(
        "--unfreeze-from",
        metavar="LAYER",
        help="with --fine-tune: the first layer that is trained (default: auto, see fine-tune)",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing submission")
    options.add_seed(sub)


def _add_head(sub: Parser) -> None:
    sub.add_argument("--head", default="ridge", metavar="NAME", help="see layertap train-head --help (default: ridge)")
    sub.add_argument(
        "--param",
        action="append",
        default=[],
        type=types.parameter,
        metavar="NAME=VALUE",
        help="parameter of the head; may be repeated",
    )


def _add_test(commands: argparse._SubParsersAction[Parser]) -> None:
    text = "train and score submissions as ramp-test does, and rank them"
    sub = add_command(commands, "test", "layertap.commands.ramp.test:test", text, _add_kit_folder)
    sub.add_argument(
        "--submission", action="append", metavar="S", help="name of a submission; may be repeated (default: all)"
    )
    sub.add_argument(
        "--old-keras",
        action="store_true",
        help="let Keras accept calls of earlier versions, such as fit_generator and lr=, and nets with channels first",
    )
    sub.add_argument("--quick-test", action="store_true", help="as with ramp-test: a kit may then use less data")
    text = "rank the submissions of a kit that have been tested, and blend them"
    add_command(commands, "leaderboard", "layertap.commands.ramp.test:leaderboard", text, _add_kit_folder)


def _add_kit_folder(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("kit", metavar="KIT", help="folder of the kit; its problem.py and its submissions are run")
