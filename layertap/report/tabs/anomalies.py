"""Images that a head calls anomalous, or should have, each beside its heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.spec import FeatureSpec
from layertap.report.heat_maps import AT_ONCE, overlay
from layertap.report.pages import data_url
from transfer.data.datasets import Dataset
from transfer.data.images.pixels import pixels_for

MOST_FLAGGED, MOST_OTHERS = 24, 12  # images of a section
SMALL = 100  # pixels: the sides of an image whose pixels are shown as squares
THRESHOLD = 1.0  # the score above which an image is flagged

# The heat of the images at some positions, of shape (m, height, width).
HeatOf = Callable[[np.ndarray], np.ndarray]


def heat_view(
    dataset: Dataset,
    spec: FeatureSpec,
    rows: np.ndarray,
    scores: np.ndarray,
    anomalous: np.ndarray,
    heat_of: HeatOf,
    normal: str,
    *,
    learned: bool,
) -> list[dict[str, Any]]:
    """What ``anomalies.html`` shows: sections of images, each as the net gets it and under its heat map.

    Parameters
    ----------
    dataset : Dataset
    spec : FeatureSpec
        How images become pixels.
    rows : ndarray of shape (m,), int
        The images that were scored, each once.
    scores : ndarray of shape (m,)
        Above 1 for what the head calls an anomaly.
    anomalous : ndarray of shape (m,), bool
        Whether an image is an anomaly.
    heat_of : callable
        The heat of the images at some positions of `dataset`, of shape (n, height, width).
    normal : str
        The class of the normal images.
    learned : bool
        Whether the head that draws the heat has learned the normal images: they have none then, and are shown alone.
    """
    flagged, worst = scores > THRESHOLD, np.argsort(-scores, kind="stable")
    alone = f"The fitted head has learned all images of {normal}, so these have no heat maps." if learned else ""
    sections = (
        ("Anomalies that are flagged", "", flagged & anomalous, True, MOST_FLAGGED),
        ("Anomalies that are missed", "", ~flagged & anomalous, True, MOST_OTHERS),
        (f"Images of {normal} that are flagged", alone, flagged & ~anomalous, not learned, MOST_OTHERS),
    )
    shown = []
    for heading, note, chosen, heated, most in sections:
        places = worst[chosen[worst]]
        if len(places):
            first = f"The {most} with the highest scores of {len(places):,}." if len(places) > most else ""
            images = list(_images(dataset, spec, rows, scores, places[:most], heat_of if heated else None))
            notes = " ".join(text for text in (note, first) if text)
            shown.append({"heading": f"{heading}: {len(places):,}", "note": notes, "images": images})
    return shown


def _images(
    dataset: Dataset,
    spec: FeatureSpec,
    rows: np.ndarray,
    scores: np.ndarray,
    places: np.ndarray,
    heat_of: HeatOf | None,
) -> Iterator[dict[str, Any]]:
    """Images as the page shows them; those that have been damaged or deleted since are left out."""
    for start in range(0, len(places), AT_ONCE):
        part = places[start : start + AT_ONCE]
        heats: Sequence[np.ndarray | None] = [None] * len(part) if heat_of is None else list(heat_of(rows[part]))
        for place, heat in zip(part, heats, strict=True):
            row = int(rows[place])
            name = dataset.ids[row]
            try:
                pixels = pixels_for(dataset.sources[row].load()[1], spec, name)
            except BadImage:
                continue
            yield {
                "id": name,
                "class": "" if dataset.labels is None else str(dataset.labels[row]),
                "score": f"{scores[place]:.2f}",
                "small": max(pixels.shape[:2]) < SMALL,
                "url": data_url(pixels),
                "heat_url": "" if heat is None else data_url(overlay(pixels, heat)),
            }
