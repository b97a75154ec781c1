"""The images of a run as points, by the features that its head reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from layertap.analysis.projections import Projection, project
from layertap.report import maps
from layertap.report.background import Picture, draw
from layertap.report.map_page import MapContent, selection_command
from layertap.report.pages import affordable
from transfer.data.datasets import Dataset
from transfer.data.images import Decoding

MOST_MAPPED, LEAST_MAPPED = 1000, 200  # images of the map of a page, of small ones and of large ones


@dataclass(frozen=True, eq=False)
class FeatureMapPicture:
    """Where images are on a map of their features.

    Attributes
    ----------
    projection : Projection
    picture : Picture, optional
        One of it, which is being drawn.
    note : str
        A sentence about the features.
    """

    projection: Projection
    picture: Picture | None = None
    note: str = ""


def map_of_features(
    features: Any, labels: np.ndarray, data: str, method: str, seed: int, views: int = 1
) -> FeatureMapPicture:
    """A map of the features of labelled images.

    Parameters
    ----------
    features : array of shape (n * views, ...)
    labels : ndarray of shape (n,)
    data : str
        What the picture calls the data set.
    method : {'pca', 'umap'}
    seed : int
    """
    projection = project(features, method, seed, views)
    return FeatureMapPicture(projection, draw(maps.feature_map, projection, labels, f"{data}: features", seed))


def mistakes_first(dataset: Dataset, result: np.ndarray) -> np.ndarray:
    """The positions of as many images as a page shows, in order: mistakes, and others, drawn at random.

    Parameters
    ----------
    dataset : Dataset
    result : ndarray of shape (n,)
        See `layertap.report.map_page.prediction_columns`.
    """
    order = np.random.default_rng(0).permutation(len(dataset))
    most = affordable(dataset.sources, MOST_MAPPED, LEAST_MAPPED)
    return np.sort(order[np.argsort(result[order] != "wrong", kind="stable")][:most])


def map_of_images(
    title: str,
    dataset: Dataset,
    feature_map: FeatureMapPicture,
    columns: Mapping[str, np.ndarray],
    decoding: Decoding,
    note: str,
) -> MapContent:
    """The images as points: all that were mistaken, and others, drawn at random.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
        See `layertap.report.map_page.prediction_columns`.
    note : str
        A sentence about the predictions.
    """
    places = feature_map.projection
    chosen = mistakes_first(dataset.select(places.rows), columns["result"][places.rows])
    rows = places.rows[chosen]
    notes = tuple(text for text in (note, feature_map.note) if text)
    if len(rows) < len(dataset):
        notes += (
            f"{len(rows):,} of {len(dataset):,} images, mistakes before all others; layertap map shows all images of a "
            "run.",
        )
    shown = dataset.select(rows)
    labels = {} if dataset.labels is None else {"class": dataset.labels[rows]}
    return MapContent(
        title,
        Projection(rows, places.points[chosen], places.axes),
        shown.ids,
        shown.sources,
        {**labels, **{name: values[rows] for name, values in columns.items()}},
        selection_command(dataset),
        decoding,
        notes,
    )
