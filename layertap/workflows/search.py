"""`layertap.search`: the images of a data set that are nearest to others in a space of features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from feature_cache.spec import FeatureSpec
from layertap.progress import ProgressBar, progress_bars
from layertap.report import match_page
from layertap.workflows.extract import BeforeExtraction, cache_for, stored_or_extracted
from layertap.workflows.load_dataset import Source, image_dataset, load_dataset
from transfer.data.dataset import Dataset, Unreadable
from transfer.data.images import decoding_of
from transfer.extraction.feature_set import FeatureSet
from transfer.nets.suggestion import suited
from transfer.request import FeatureRequest
from transfer.search.neighbors import METRICS, Metric

HEAD = ("query", "rank", "id", "label", "distance", "similarity")


@dataclass(frozen=True, eq=False, repr=False)
class Matches:
    """The images nearest to each query.

    Attributes
    ----------
    dataset : Dataset
        The images that were searched.
    queries : Dataset
        Those that can be read.
    spec : FeatureSpec
        The features that were compared.
    metric : {'cosine', 'euclidean'}
    positions : ndarray of shape (queries, k), int64
        Positions in `dataset`, the nearest first; equally distant images in their order.
    distances : ndarray of shape (queries, k), float64
        ``1 - cosine similarity``, or Euclidean distances.
    skipped : tuple of Unreadable
        Images and queries that could not be read.
    notes : tuple of str
        Sentences about what the result does not show.
    """

    dataset: Dataset
    queries: Dataset
    spec: FeatureSpec
    metric: Metric
    positions: np.ndarray
    distances: np.ndarray
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        found = self.positions.shape[1]
        return f"<Matches of {len(self.queries)} queries in {self.dataset.name!r}: {found} images each, {self.metric}>"

    def _repr_html_(self) -> str:
        return match_page.as_fragment(self.queries, self.dataset, self.positions, self._captions())

    @property
    def ids(self) -> list[list[str]]:
        """The ids of the images nearest to each query."""
        return [[self.dataset.ids[position] for position in line] for line in self.positions.tolist()]

    @property
    def labels(self) -> list[list[str | None]]:
        """The labels of the images nearest to each query; None without labels."""
        labels: Any = [None] * len(self.dataset) if self.dataset.labels is None else self.dataset.labels.tolist()
        return [[labels[position] for position in line] for line in self.positions.tolist()]

    def rows(self) -> list[tuple[Any, ...]]:
        """A heading, and a row for each query and image near to it: what a CSV file holds."""
        lines: list[tuple[Any, ...]] = [HEAD]
        for query, match in zip(self.queries.ids, self._as_dicts(), strict=True):
            lines += [(query, *("" if one[name] is None else one[name] for name in HEAD[1:])) for one in match]
        return lines

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        found = zip(self.queries.ids, self._as_dicts(), strict=True)
        return {
            "data": self.dataset.name,
            "images": len(self.dataset),
            "space": self.spec.folder_name,
            "metric": self.metric,
            "queries": [{"id": query, "neighbors": match} for query, match in found],
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "notes": list(self.notes),
        }

    def write_page(self, file: str | Path) -> None:
        """Write a page that shows each query and the images near to it; it needs no file beside it and no network.

        Raises
        ------
        StorageFailure
            When it cannot be written.
        """
        facts = [
            ("Data set", f"{self.dataset.name}: {len(self.dataset):,} images"),
            ("Features", f"{self.spec.net}, layer {self.spec.layer}, pooling {self.spec.pooling}"),
            ("Distance", "1 - cosine similarity" if self.metric == "cosine" else "Euclidean"),
        ]
        match_page.write(
            Path(file),
            facts,
            self.queries,
            self.dataset,
            self.positions,
            self._captions(),
            self.notes,
            decoding_of(self.spec),
        )

    def _as_dicts(self) -> list[list[dict[str, Any]]]:
        parts = zip(self.ids, self.labels, self.distances.tolist(), strict=True)
        cosine = self.metric == "cosine"
        return [
            [
                {
                    "rank": rank,
                    "id": name,
                    "label": label,
                    "distance": distance,
                    "similarity": 1 - distance if cosine else None,
                }
                for rank, (name, label, distance) in enumerate(zip(*part, strict=True), 1)
            ]
            for part in parts
        ]

    def _captions(self) -> list[list[str]]:
        return [[f"{distance:.4g}" for distance in line] for line in self.distances.tolist()]


def search(
    data: Source,
    features: FeatureSet | FeatureRequest,
    queries: Source,
    *,
    k: int = 12,
    metric: Metric = "cosine",
    index: bool = False,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
    before_extraction: BeforeExtraction | None = None,
) -> Matches:
    """The `k` images of a data set that are nearest to each query.

    Features that the cache lacks are extracted first: those of the queries go through the cache, too. They are then
    computed by the one path that all features come from, a query that the data set holds costs nothing, and asking the
    same question again is free.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
        The images that are searched.
    features : FeatureSet or FeatureRequest
        The features that are compared, of one layer: what `layertap.extract` returns, or a request. Of several views of
        an image, the first is compared.
    queries : Dataset, or what `layertap.load_dataset` takes
        Image files, or one data set.
    k : int
        The number of images; of fewer, all are returned.
    metric : {'cosine', 'euclidean'}
    index : bool
        Whether an approximate index answers, which is built beside the space where there is none: for millions of
        images. It may miss some of the nearest; the distances are exact. Otherwise the search is exact.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder; by default that of the `features`, or the default cache.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.
    before_extraction : callable, optional
        See `layertap.workflows.extract.BeforeExtraction`.

    Returns
    -------
    Matches

    Raises
    ------
    InvalidChoice
        When an option has a value that is not allowed, or the features are of several layers.
    BadImage
        When an image or a query cannot be read, unless such images are skipped.
    BadData
        When features are infinite or not numbers.

    Examples
    --------
    >>> import layertap as lt
    >>> digits = lt.load_dataset("digits")
    >>> features = lt.extract(digits, "glyphnet", layers=["block4_pool"], progress=False)
    >>> found = lt.search(digits, features, digits.select(digits.labels == "7"), k=5, progress=False)
    >>> found.ids[0][0], found.labels[0]
    ('digit-0007', ['7', '7', '7', '7', '7'])
    """
    if k < 1:
        raise InvalidChoice(f"the number of neighbors `k` is at least 1; received {k}.")
    if metric not in METRICS:
        raise InvalidChoice(f"`metric` is {' or '.join(METRICS)}; received {metric!r}.")
    bars, asked = progress_bars(progress), image_dataset(queries)
    stored = partial(stored_or_extracted, cache=cache_for(features, cache), on_error=on_error, progress=bars)
    if isinstance(features, FeatureSet):
        if features.request is None:
            raise InvalidChoice("these features do not record their net; take those that layertap.extract returns.")
        features = features.request
    searched = stored(load_dataset(data), features, before=before_extraction)
    if len(searched) != 1:
        raise InvalidChoice(f"a search compares the features of one layer; choose one of {', '.join(searched)}.")
    assert searched.request is not None
    target = stored(asked, searched.request)
    for part, what in ((searched, "images"), (target, "queries")):
        if not len(part.dataset):
            raise InvalidChoice(f"none of the {len(part.skipped)} {what} can be read.")
    layer = next(iter(target))
    found = searched.search(target.plain_rows(layer)[:], k, metric=metric, index=index)
    notes = suited([searched.request.net], searched.dataset)
    if found.rows.shape[1] < k:
        notes.append(f"there are {len(searched.dataset):,} images, fewer than `k={k}`: all of them are shown.")
    return Matches(
        searched.dataset,
        target.dataset,
        searched.specs[0],
        metric,
        found.rows,
        found.distances,
        (*searched.skipped, *target.skipped),
        tuple(notes),
    )
