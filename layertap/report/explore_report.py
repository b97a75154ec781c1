"""What `layertap explore` reports, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layertap.commands.terminal.output import size_text

if TYPE_CHECKING:
    from transfer.data.duplicates import Copies
    from transfer.data.survey import DatasetSurvey

MOST_NAMED = 10


def report(surveys: Sequence[DatasetSurvey], copies: Copies) -> dict[str, Any]:
    """What ``--json`` prints: `transfer.data.survey.summary`, the copies, and what is in the other data set too."""
    from transfer.data.survey import summary

    first = len(surveys[0].records)
    ids: list[str] = []
    labels: list[str | None] = []
    for one in surveys:
        ids += one.dataset.ids
        labels += [None] * len(one.records) if one.dataset.labels is None else one.dataset.labels.tolist()

    def told(positions: Sequence[int], alike: float) -> dict[str, Any]:
        classes = {labels[position] for position in positions} - {None}
        images = [
            {"id": ids[position], "class": labels[position], "in": "data" if position < first else "against"}
            for position in positions
        ]
        return {"images": images, "alike": round(alike, 4), "classes_differ": len(classes) > 1}

    within = [[position for position in group if position < first] for group in copies.exact]
    said = {
        "data": surveys[0].dataset.name,
        **summary(surveys[0]),
        "copies": {
            "exact": [told(group, 1.0) for group in within if group[1:]],
            "near": [told(pair, alike) for *pair, alike in copies.near if max(pair) < first],
            "near_left_out": copies.near_total - len(copies.near),
        },
        "against": None,
    }
    if len(surveys) > 1:
        across = [group for group in copies.exact if group[0] < first <= group[-1]]
        near = [(pair, alike) for *pair, alike in copies.near if max(pair) >= first]
        group_of = {group[0]: group for group in copies.exact}
        leaked = {position for group in across for position in group if position >= first}
        for pair, _ in near:
            leaked.update(group_of.get(max(pair), [max(pair)]))
        other = summary(surveys[1])
        said["against"] = {
            "data": surveys[1].dataset.name,
            **{name: other[name] for name in ("images", "readable", "classes", "unreadable")},
            "leaks": {
                "images": len(leaked),
                "exact": [told(group, 1.0) for group in across],
                "near": [told(pair, alike) for pair, alike in near],
            },
        }
    return said


def facts(report: dict[str, Any]) -> dict[str, str]:
    """The report's numbers about images, in words."""
    shapes = {f"{one['height']} x {one['width']}": one["count"] for one in report["shapes"]}
    sizes, (height, width) = report["bytes"], report["size"]
    stored = "in memory"
    if sizes:
        stored = ", ".join(f"{name} {size_text(size)}" for name, size in sizes.items() if name != "sum")
        stored += f"; {size_text(sizes['sum'])} in all"
    said = {
        "height x width": _counts(shapes),
        "modes": _counts(report["modes"]),
        "bits a channel": _counts(report["bits"]),
        "formats": _counts(report["formats"]),
        "file sizes": stored,
        f"mean at {height} x {width}": _channels(report["mean"]),
        "standard deviation": _channels(report["std"]),
    }
    if report["animated"]:
        said["of several pages"] = f"{report['animated']:,}, of which the first is used"
    return said


def _counts(counts: dict[str, int]) -> str:
    some = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:MOST_NAMED])
    return f"{some}, and {len(counts) - MOST_NAMED:,} others" if len(counts) > MOST_NAMED else some


def _channels(values: list[float]) -> str:
    texts = [f"{value:.1f}" for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return ", ".join(f"{name} {text}" for name, text in zip(("red", "green", "blue"), texts, strict=True))


def named(image: dict[str, Any]) -> str:
    """An image of a group, by its id and its class."""
    return f"{image['id']} ({image['class']})" if image["class"] else str(image["id"])
