"""Options of `layertap sweep` but for those of the features, which are in `options`."""

from __future__ import annotations

import argparse
import os

from layertap.commands.arguments import protocol, types
from layertap.commands.arguments.heads import grid


def add(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("heads")
    group.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NAME",
        help="head, as of train-head; may be repeated (default: auto, ridge and knn)",
    )
    group.add_argument(
        "--grid",
        action="append",
        default=[],
        type=grid,
        metavar="HEAD.NAME=V1,V2",
        help="values of a parameter of a head, each of which is judged; may be repeated",
    )
    group.add_argument(
        "--jobs",
        type=types.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of processes (default: one for each core)",
    )
    protocol.add(sub)
    sub.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the results; an interrupted sweep continues there (default: sweep; sweep-2 for other images)",
    )
