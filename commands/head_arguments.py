"""Arguments of the commands that train heads."""

from __future__ import annotations

import argparse
import os

from commands import arguments
from feature_cache.spec import POOLINGS


def add_sweep(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("features", "each may be repeated; all combinations are judged")
    group.add_argument(
        "--net", action="append", default=[], metavar="N", help="name or .keras file (default: glyphnet)"
    )
    group.add_argument(
        "--layer", action="append", default=[], metavar="L", help="of the net; NET:LAYER of several nets"
    )
    group.add_argument("--pool", action="append", default=[], choices=POOLINGS, help="(default: the net's custom)")
    group.add_argument(
        "--size",
        action="append",
        default=[],
        type=arguments.size,
        metavar="S",
        help="input size (default: the net's own)",
    )
    group.add_argument(
        "--join", action="append", default=[], metavar="L+M", help="layers side by side, besides each for itself"
    )
    group.add_argument("--weights", metavar="W", help="of all nets: imagenet, none or a file")
    group.add_argument("--extract", action="store_true", help="compute the features that the cache lacks")
    group = sub.add_argument_group("heads")
    group.add_argument(
        "--head", action="append", default=[], metavar="NAME", help="may be repeated (default: logistic, ridge and knn)"
    )
    group.add_argument(
        "--grid", action="append", default=[], type=grid, metavar="HEAD.NAME=V1,V2", help="values of a parameter"
    )
    group.add_argument(
        "--jobs",
        type=arguments.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: all cores)",
    )
    add_protocol(group)
    arguments.add_seed(sub)
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of the results; the same one goes on there")


def add_choice(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--grid",
        action="append",
        default=[],
        type=grid,
        metavar="NAME=V1,V2",
        help="values of a parameter, chosen among by inner folds of the training rows; may be repeated",
    )
    group.add_argument("--calibrate", action="store_true", help="learn a temperature of the probabilities")
    group.add_argument("--join", action="store_true", help="read all layers side by side, instead of choosing one")
    group.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="SPACE",
        help="read this space of the cache, too; may be repeated",
    )
    group.add_argument("--test", type=float, metavar="F", help="set a share F aside, scored once at the end")
    group.add_argument("--curve", type=counts, default=[], metavar="N,N", help="accuracy by labelled images per class")


def counts(text: str) -> list[int]:
    """``1,5,20`` as rising numbers."""
    return sorted({arguments.positive(part) for part in text.split(",")})


def add_protocol(group: argparse._ArgumentGroup) -> None:
    protocol = group.add_mutually_exclusive_group()
    protocol.add_argument("--cv", type=int, metavar="K", help="judge by K stratified folds")
    protocol.add_argument("--valid", type=float, metavar="F", help="judge on a share F held out (default: 0.2)")
    protocol.add_argument(
        "--per-class", type=int, metavar="N", help="train on N labelled images per class, judge on all the rest"
    )
    group.add_argument(
        "--draws", type=arguments.positive, default=20, metavar="N", help="for --per-class (default: 20)"
    )


def grid(text: str) -> tuple[str, list[str]]:
    """``C=0.1,1`` as (name, values)."""
    name, values = arguments.parameter(text)
    return name, values.split(",")
