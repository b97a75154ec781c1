"""How scores, and remarks about them, are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from heads.registry import TASKS
from layertap.commands.terminal.output import print_notes, print_table
from layertap.flags import with_flags

CLASSES, REGRESSION, MULTILABEL = TASKS

# The scores in the line of each split: their labels and their keys.
HEADLINES = {
    CLASSES: (("accuracy", "accuracy"), ("log-loss", "nll")),
    REGRESSION: (("R²", "r2"), ("RMSE", "rmse")),
    MULTILABEL: (("average precision", "average_precision"), ("F1", "f1_micro")),
}
# Columns and their decimals, in this order; those that no part has are left out.
COLUMNS = {
    "accuracy": ("accuracy", 4),
    "balanced accuracy": ("balanced_accuracy", 4),
    "log-loss": ("nll", 4),
    "calibration error": ("ece", 4),
    "R²": ("r2", 4),
    "RMSE": ("rmse", 4),
    "mean abs. error": ("mae", 4),
    "average precision": ("average_precision", 4),
    "F1 micro": ("f1_micro", 4),
    "F1 macro": ("f1_macro", 4),
    "all labels right": ("subset_accuracy", 4),
    "images": ("n", 0),
    "fit (s)": ("fit_seconds", 2),
    "predict (s)": ("predict_seconds", 3),
}


def print_remarks(notes: Sequence[str], warnings: Sequence[str]) -> None:
    """Print notes about the data, and warnings about scores that are too good to be relied on, on stderr."""
    print_notes(notes)
    for warning in warnings:
        print(f"warning: {with_flags(warning)}", file=sys.stderr)


def print_scores(parts: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a table of scores, a row for each part."""
    columns = {head: column for head, column in COLUMNS.items() if any(column[0] in scores for _, scores in parts)}
    rows = [
        (name, *(score_text(scores.get(key), digits) for key, digits in columns.values())) for name, scores in parts
    ]
    print_table(("", *columns), rows)


def score_text(value: Any, digits: int) -> str:
    """A number, or ``mean`` and ``std`` of several."""
    if isinstance(value, dict):
        spread = f" ± {value['std']:.{digits}f}" if value["std"] else ""
        return score_text(value["mean"], digits) + spread
    return "-" if value is None else f"{value:.{digits}f}"
