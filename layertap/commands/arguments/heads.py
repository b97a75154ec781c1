"""Arguments of the commands that train heads."""

from __future__ import annotations

import argparse

from heads.registry import DETECTORS, HEADS
from layertap.commands.arguments import types
from layertap.tracking import TOOLS


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


def add_normal(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--normal",
        metavar="CLASS",
        help="class without defects, which the head patchcore learns; all others are only scored (default: good)",
    )


def add_head(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("head")
    group.add_argument(
        "--head",
        default=None,
        metavar="NAME",
        help=f"{', '.join(HEADS)}; {', '.join(DETECTORS)}, which learns one class and "
        "finds anomalies; a classifier or regressor of scikit-learn, as sklearn.svm:SVC; or "
        "FILE.py:make_head, a function of yours that returns an estimator: the file is run (default: auto; ridge "
        "for --regression, logistic for --multilabel)",
    )
    group.add_argument(
        "--param",
        action="append",
        default=[],
        type=types.parameter,
        metavar="NAME=VALUE",
        help="parameter of the head; most heads also have scale=true or false, pca=N, calibrate=true or false and "
        "class_weight=balanced; may be repeated",
    )
    group.add_argument(
        "--grid",
        action="append",
        default=[],
        type=grid,
        metavar="NAME=V1,V2",
        help="values of a parameter, of which inner folds of the training images choose one; may be repeated",
    )
    group.add_argument("--calibrate", action="store_true", help="calibrate probabilities by a learned temperature")
    group.add_argument(
        "--join", action="store_true", help="train on all layers side by side, instead of choosing the best one"
    )
    group.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="SPACE",
        help="train also on the features of this space of the cache, side by side; may be repeated",
    )
    group.add_argument(
        "--average-views", action="store_true", help="predict by the mean over all views of an image, not by the first"
    )


def add_run(sub: argparse.ArgumentParser) -> None:
    add_out(sub)
    sub.add_argument(
        "--curve",
        type=counts,
        default=[],
        metavar="N,N",
        help="draw the accuracy for these numbers of labelled images of each class",
    )
    sub.add_argument(
        "--map", choices=("pca", "umap"), default="pca", help="how features are drawn in two dimensions (default: pca)"
    )


def add_out(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out", metavar="RUN", help="folder of the run to write (default: run; run-2, run-3, ... where that exists)"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing run")
    sub.add_argument("--tracking", choices=TOOLS, help="log scores, configuration and pictures with this tool, too")


def counts(text: str) -> list[int]:
    """``1,5,20`` as rising numbers."""
    return sorted({types.positive(part) for part in text.split(",")})


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
