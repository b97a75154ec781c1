"""Options that say how images are divided into those to train on and those to judge on."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import types


def add(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group(
        "protocol", "how the images are divided into those to train on and those to judge on"
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument("--cv", type=int, metavar="K", help="judge by cross-validation in K stratified folds")
    either.add_argument("--valid", type=float, metavar="F", help="judge on a share F held out (default: 0.2)")
    either.add_argument(
        "--per-class", type=int, metavar="N", help="train on N labelled images of each class, judge on all others"
    )
    group.add_argument(
        "--repeats", type=types.positive, default=1, metavar="R", help="make the folds of --cv R times (default: 1)"
    )
    group.add_argument(
        "--draws",
        type=types.positive,
        default=20,
        metavar="N",
        help="number of times that --per-class draws images (default: 20)",
    )
    group.add_argument(
        "--splits",
        metavar="COLUMN",
        help="column of a CSV file that says where an image belongs: train, valid or test, or the name of its fold",
    )
    group.add_argument(
        "--groups",
        metavar="COLUMN",
        help="column of a CSV file: images with the same value, of one patient for instance, are never divided",
    )
    group.add_argument(
        "--together",
        choices=("exact", "near", "copies"),
        default="exact",
        help="which images are never divided: exact copies and the pages of a file; near-duplicates as well, as "
        "explore finds them; or copies alone, so that pages of a file may be divided (default: exact)",
    )


def add_test(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--test", type=float, metavar="F", help="set a share F of the images aside, scored once at the end"
    )
