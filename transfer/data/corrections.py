"""Corrections: a table that says which images of a data set are dropped, and which get another label.

`layertap review` writes such a table and people fill in the column ``action``: ``keep``, ``drop`` or ``relabel``, or
nothing while it is undecided. ``relabel`` gives an image the label in the column ``label``, which may be a class that
the data set has not had before. Other columns are for people.

A data set keeps the decisions that were applied to it, so that the review of a run can carry them along.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, one_line, unknown
from feature_cache.files.checked import read_bytes
from feature_cache.files.neighbours import suggestion
from transfer.data.dataset import Dataset

ID, ACTION, LABEL = "id", "action", "label"
KEEP, DROP, RELABEL = ACTIONS = ("keep", "drop", "relabel")


class Decision(NamedTuple):
    """What was decided about an image: an action, and the new label of ``relabel``."""

    action: str
    label: str = ""


@dataclass(frozen=True)
class Corrections:
    """Decisions about images.

    Attributes
    ----------
    name : str
        The file they come from.
    sha256 : str
        The SHA-256 of the file, in hexadecimal.
    ids : tuple of str
        All images that the table names, undecided ones as well.
    decisions : dict of str to Decision
        What was decided, by id, in the order of the table.
    earlier : Corrections, optional
        Those that were applied to the data set before; of an image that both name, these count.
    """

    name: str
    sha256: str
    ids: tuple[str, ...]
    decisions: dict[str, Decision]
    earlier: Corrections | None = None

    @property
    def dropped(self) -> frozenset[str]:
        """The ids of images to leave out."""
        return frozenset(image for image, decision in self.decisions.items() if decision.action == DROP)

    @property
    def labels(self) -> dict[str, str]:
        """The new labels, by id."""
        return {image: decision.label for image, decision in self.decisions.items() if decision.action == RELABEL}

    @property
    def all_decisions(self) -> dict[str, Decision]:
        """What was decided about each image in the end, by these corrections and by earlier ones.

        To keep an image that earlier corrections have relabelled is to keep its new label.
        """
        earlier = self.earlier.all_decisions if self.earlier else {}
        later = {
            image: decision
            for image, decision in self.decisions.items()
            if decision.action != KEEP or image not in earlier
        }
        return {**earlier, **later}

    def to_json(self) -> dict[str, Any]:
        """What a run records of the corrections that its data set was given."""
        counts = {"dropped": len(self.dropped), "relabelled": len(self.labels)}
        before = {"earlier": self.earlier.to_json()} if self.earlier else {}
        return {"file": self.name, "sha256": self.sha256, **counts, **before}


def read_corrections(file: str | os.PathLike[str]) -> Corrections:
    """The decisions in a CSV file with the columns ``id``, ``action`` and, where images get labels, ``label``.

    Raises
    ------
    InvalidChoice
        When there is no such file, or it names an action that there is none of.
    BadData
        When it is no such table, names an image twice, or gives a new label without saying which.
    """
    path = Path(file)
    try:
        content = read_bytes(path)
        rows = list(_rows(path, content.decode("utf-8-sig")))
    except FileNotFoundError as error:
        raise InvalidChoice(
            f"there are no corrections {path}{suggestion(path) or '; layertap review writes them.'}"
        ) from error
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise BadData(f"{path} cannot be read as corrections ({reason}).") from error
    decisions: dict[str, Decision] = {}
    seen: dict[str, None] = {}  # in the order of the table
    for image, action, label in rows:
        if image in seen:
            raise BadData(f"{path} names the image {image!r} twice; leave one of the rows.")
        seen[image] = None
        if action == RELABEL and not label:
            raise BadData(f"{path} relabels {image!r} without a label; write one in the column {LABEL!r}.")
        if action and action not in ACTIONS:
            raise unknown(f"{path} has, for {image!r}, no action", action, ACTIONS)
        if action:
            decisions[image] = Decision(action, label if action == RELABEL else "")
    return Corrections(str(file), hashlib.sha256(content).hexdigest(), tuple(seen), decisions)


def _rows(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    """The id, the action and the label of every row."""
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","  # what spreadsheets write where commas are decimal
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = table.fieldnames or []
    for name in (ID, ACTION):
        if name not in columns:
            raise BadData(f"{path} has no column {name!r}; corrections have {ID}, {ACTION} and {LABEL}.")
    for row in table:
        yield row[ID] or "", (row[ACTION] or "").strip().lower(), (row.get(LABEL) or "").strip()


def correct(dataset: Dataset, corrections: Corrections) -> Dataset:
    """The data set without the images that are dropped, and with the new labels.

    Features of its images stay valid: labels are no part of a cache. An image that earlier corrections dropped may be
    named again, as one to drop.

    Raises
    ------
    BadData
        When it lacks an image that is named, has no labels to change, or nothing is left of it.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> decisions = {"digit-0000": Decision(DROP), "digit-0001": Decision(RELABEL, "7")}
    >>> corrected = correct(load("digits"), Corrections("review.csv", "", tuple(decisions), decisions))
    >>> len(corrected), corrected.labels[:2].tolist()
    (1796, ['7', '2'])
    """
    earlier = dataset.corrections
    gone = corrections.dropped & {
        image for image, decision in (earlier.all_decisions if earlier else {}).items() if decision.action == DROP
    }
    known = {*dataset.ids, *gone}
    if missing := sorted(set(corrections.ids) - known):
        more = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise BadData(
            f"{corrections.name} names the image {missing[0]!r}{more}, which {dataset.name} does not have; are these "
            "the corrections of another data set, or were images renamed?"
        )
    if corrections.labels and dataset.labels is None:
        raise BadData(f"{corrections.name} gives images new labels, and {dataset.name} has no labels.")
    labels, new, dropped = dataset.labels, corrections.labels, corrections.dropped
    if labels is not None:
        labels = np.array([new.get(image, label) for image, label in zip(dataset.ids, labels.tolist(), strict=True)])
    kept = np.array([image not in dropped for image in dataset.ids])
    if not kept.any():
        raise BadData(f"{corrections.name} drops all images of {dataset.name}.")
    return replace(replace(dataset, labels=labels).select(kept), corrections=replace(corrections, earlier=earlier))
