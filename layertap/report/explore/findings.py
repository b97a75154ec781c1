"""The findings of exploring a data set, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layertap.units import size_text
from transfer.data.copies.duplicates import Copies
from transfer.data.survey import DatasetSurvey, summary
from transfer.nets.suggestion import install_hint, suggested_net

MOST_NAMED = 10


def report(surveys: Sequence[DatasetSurvey], copies: Copies) -> dict[str, Any]:
    """The findings as ``layertap explore --json`` prints them.

    Parameters
    ----------
    surveys : sequence of DatasetSurvey
        The survey of the data set and, perhaps, of another one that it is compared with.
    copies : Copies
        The copies among the images of both.

    Returns
    -------
    dict
        See `transfer.data.survey.summary`; with the name of a net to begin with, the copies, and the leaks into the
        other data set.
    """
    groups = _Groups(surveys)
    first = groups.first
    within = [[position for position in group if position < first] for group in copies.exact]
    against = None
    if len(surveys) > 1:
        against = {"data": surveys[1].dataset.name, **_counts_of(surveys[1]), "leaks": _leaks(groups, copies)}
    return {
        "data": surveys[0].dataset.name,
        **summary(surveys[0]),
        "suggested_net": suggested_net(record.shape for record in surveys[0].records),
        "copies": {
            "exact": [groups.entry(group, 1.0) for group in within if group[1:]],
            "near": [groups.entry(pair, correlation) for *pair, correlation in copies.near if max(pair) < first],
            "near_left_out": copies.near_total - len(copies.near),
        },
        "against": against,
    }


class _Groups:
    """Groups of images as entries of the report, by positions that are counted on from one survey to the next.

    Attributes
    ----------
    first : int
        The number of images in the first survey.
    """

    def __init__(self, surveys: Sequence[DatasetSurvey]) -> None:
        self.first = len(surveys[0].records)
        self._ids: list[str] = []
        self._labels: list[str | None] = []
        for survey in surveys:
            labels, count = survey.dataset.labels, len(survey.records)
            self._ids += survey.dataset.ids
            self._labels += [None] * count if labels is None else labels.tolist()

    def entry(self, positions: Sequence[int], correlation: float) -> dict[str, Any]:
        classes = {self._labels[position] for position in positions} - {None}
        images = [
            {
                "id": self._ids[position],
                "class": self._labels[position],
                "in": "data" if position < self.first else "against",
            }
            for position in positions
        ]
        return {"images": images, "alike": round(correlation, 4), "classes_differ": len(classes) > 1}


def _counts_of(survey: DatasetSurvey) -> dict[str, Any]:
    numbers = summary(survey)
    return {name: numbers[name] for name in ("images", "readable", "classes", "unreadable")}


def _leaks(groups: _Groups, copies: Copies) -> dict[str, Any]:
    """Images of the second data set that are in the first one too, or have a near-duplicate there."""
    first = groups.first
    across = [group for group in copies.exact if group[0] < first <= group[-1]]
    near = [(pair, correlation) for *pair, correlation in copies.near if max(pair) >= first]
    group_of = {group[0]: group for group in copies.exact}
    leaked = {position for group in across for position in group if position >= first}
    for pair, _ in near:
        leaked.update(group_of.get(max(pair), [max(pair)]))
    return {
        "images": len(leaked),
        "exact": [groups.entry(group, 1.0) for group in across],
        "near": [groups.entry(pair, correlation) for pair, correlation in near],
    }


def facts(report: dict[str, Any]) -> dict[str, str]:
    """The numbers about files and pixels in words, by what they are about."""
    shapes = {f"{one['height']} x {one['width']}": one["count"] for one in report["shapes"]}
    sizes, (height, width) = report["bytes"], report["size"]
    stored = "in memory"
    if sizes:
        stored = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items() if name != "sum")
        stored += f"; {size_text(sizes['sum'])} in all"
    facts = {
        "height x width": _counts(shapes),
        "modes": _counts(report["modes"]),
        "bits a channel": _counts(report["bits"]),
        "formats": _counts(report["formats"]),
        "file sizes": stored,
        f"mean at {height} x {width}": _channels(report["mean"]),
        "standard deviation": _channels(report["std"]),
    }
    net = report["suggested_net"]
    facts["suggested net"] = f"{net}{install_hint(net)}"
    if report["animated"]:
        facts["of several pages"] = f"{report['animated']:,}, of which the first is used"
    return facts


def _counts(counts: dict[str, int]) -> str:
    first = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:MOST_NAMED])
    return f"{first}, and {len(counts) - MOST_NAMED:,} others" if len(counts) > MOST_NAMED else first


def _channels(values: list[float]) -> str:
    texts = [f"{value:.1f}" for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{name} {text}" for name, text in zip(("red", "green", "blue"), texts, strict=True))


def named(image: dict[str, Any]) -> str:
    """An image of a group, by its id and its class."""
    return f"{image['id']} ({image['class']})" if image["class"] else str(image["id"])
