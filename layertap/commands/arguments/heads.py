"""Arguments of the commands that train heads."""

from __future__ import annotations

import argparse
import os

from feature_cache.spec import POOLINGS
from layertap.commands.arguments import shared, types


def add_sweep(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("features", "each may be repeated; all combinations are judged")
    group.add_argument(
        "--net", action="append", default=[], metavar="N", help="name, .keras or .h5 file (default: glyphnet)"
    )
    group.add_argument(
        "--layer", action="append", default=[], metavar="L", help="of the net; NET:LAYER of several nets"
    )
    group.add_argument("--pool", action="append", default=[], choices=POOLINGS, help="(default: the net's custom)")
    group.add_argument(
        "--size",
        action="append",
        default=[],
        type=types.size,
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
        type=types.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: all cores)",
    )
    add_protocol(group)
    shared.add_seed(sub)
    sub.add_argument("--out", required=True, metavar="DIR", help="folder of the results; the same one goes on there")


def add_head(group: argparse._ArgumentGroup) -> None:
    from heads import HEADS

    group.add_argument(
        "--head",
        default=None,
        metavar="NAME",
        help=f"{', '.join(HEADS)}; a classifier or regressor of scikit-learn, as sklearn.svm:SVC; or "
        "FILE.py:make_head, a function of your own that returns an estimator: the file is run (default: logistic; "
        "ridge for --regression)",
    )
    group.add_argument(
        "--param",
        action="append",
        default=[],
        type=types.parameter,
        metavar="NAME=VALUE",
        help="of the head; of most also scale=true or false, pca=N, calibrate=true or false, class_weight=balanced",
    )


def add_targets(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("targets", "the class of each image or, of a CSV file, one of these")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--regression", type=columns, default=[], metavar="COLUMN,..", help="predict the numbers of these columns"
    )
    either.add_argument(
        "--multilabel",
        type=columns,
        default=[],
        metavar="COLUMN,..",
        help="predict any number of labels: a column that lists them (sun;sea), or a column of 0 and 1 for each",
    )


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
    group.add_argument(
        "--map", choices=("pca", "umap"), default="pca", help="how features are drawn in two dimensions (default: pca)"
    )
    group.add_argument("--test", type=float, metavar="F", help="set a share F aside, scored once at the end")
    group.add_argument("--curve", type=counts, default=[], metavar="N,N", help="accuracy by labelled images per class")


def counts(text: str) -> list[int]:
    """``1,5,20`` as rising numbers."""
    return sorted({types.positive(part) for part in text.split(",")})


def add_protocol(group: argparse._ArgumentGroup) -> None:
    protocol = group.add_mutually_exclusive_group()
    protocol.add_argument("--cv", type=int, metavar="K", help="judge by K stratified folds")
    protocol.add_argument("--valid", type=float, metavar="F", help="judge on a share F held out (default: 0.2)")
    protocol.add_argument(
        "--per-class", type=int, metavar="N", help="train on N labelled images per class, judge on all the rest"
    )
    group.add_argument("--repeats", type=types.positive, default=1, metavar="R", help="make the folds of --cv R times")
    group.add_argument(
        "--splits",
        metavar="COLUMN",
        help="of a CSV file: train, valid and test of its own, or a name for each fold",
    )
    group.add_argument(
        "--groups", metavar="COLUMN", help="of a CSV file: images of a group, one patient's, stay on one side"
    )
    group.add_argument(
        "--together",
        choices=("exact", "near", "copies"),
        default="exact",
        help="what stays on one side: exact copies and the pages of a file; near-duplicates as well, as explore finds "
        "them; or copies alone, so that pages of a file may part (default: exact)",
    )
    group.add_argument("--draws", type=types.positive, default=20, metavar="N", help="for --per-class (default: 20)")


def columns(text: str) -> list[str]:
    """``a,b`` as names."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names a column twice, or not at all; give them as a,b")
    return names


def grid(text: str) -> tuple[str, list[str]]:
    """``C=0.1,1`` as (name, values)."""
    name, values = types.parameter(text)
    return name, values.split(",")
