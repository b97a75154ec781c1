"""How scores, and remarks about them, are printed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any

from layertap.commands.terminal.colours import styled
from layertap.commands.terminal.output import print_notes, print_table
from layertap.flags import with_flags
from layertap.shown_scores import HEADLINES, SCORES

MOST_CLASSES = 20  # that are printed


def print_remarks(notes: Sequence[str], warnings: Sequence[str]) -> None:
    """Print notes about the data, and warnings about scores that are too good to be relied on, on stderr."""
    print_notes(notes)
    for warning in warnings:
        print(f"{styled('warning:', 'warning', sys.stderr)} {with_flags(warning)}", file=sys.stderr)


def print_scores(parts: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a table of scores, a row for each part; on a terminal that is too narrow for it, a row for each score."""
    shown = {
        key: score for key, score in SCORES.items() if score.in_tables and any(key in scores for _, scores in parts)
    }
    rows = [
        (name, *(score_text(scores.get(key), score.decimals) for key, score in shown.items())) for name, scores in parts
    ]
    table = [("", *(score.label for score in shown.values())), *rows]
    if not _fits(table):
        table = list(zip(*table, strict=True))
    print_table(table[0], table[1:])


def _fits(table: Sequence[Sequence[str]]) -> bool:
    """Whether a table is printed to something that is no terminal, or is wide enough."""
    width = sum(max(map(len, column)) + 2 for column in zip(*table, strict=True)) - 2
    return not sys.stdout.isatty() or width <= shutil.get_terminal_size().columns


def print_classes(classes: Sequence[dict[str, Any]]) -> None:
    """Print the scores of each class (see `heads.evaluation.metrics.per_class`); of many, those of the worst."""
    shown = classes
    if len(classes) > MOST_CLASSES:
        found = [one for one in classes if one["f1"] is not None]
        shown = sorted(found, key=lambda one: one["f1"])[:MOST_CLASSES]
        print(f"The {len(shown)} of {len(classes)} classes with the lowest F1:")
    rows = [
        (one["class"], *(score_text(one[name], 4) for name in ("precision", "recall", "f1")), f"{one['support']:,}")
        for one in shown
    ]
    print_table(("class", "precision", "recall", "F1", "images"), rows)


def headline_text(scores: dict[str, Any], task: str) -> str:
    """The most important scores of a task, with their labels."""
    labels = {"f1_micro": "F1"}  # a line has little room
    return "  ".join(
        f"{labels.get(key, SCORES[key].label)} {score_text(scores[key], SCORES[key].decimals)}"
        for key in HEADLINES[task]
    )


def score_text(value: Any, digits: int) -> str:
    """A number, or ``mean`` and ``std`` of several."""
    if isinstance(value, dict):
        spread = f" ± {value['std']:.{digits}f}" if value["std"] else ""
        return score_text(value["mean"], digits) + spread
    return "-" if value is None else f"{value:.{digits}f}"
