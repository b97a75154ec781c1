"""`layertap.drift`: whether new images come from the distribution of old ones, and which of them are furthest away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, InvalidChoice
from feature_cache.features import Features
from feature_cache.files.digest_list import digest_keys
from feature_cache.spec import FeatureSpec
from layertap.analysis.two_samples import TwoSampleTest, mmd_test
from layertap.progress import ProgressBar, progress_bars
from layertap.report import drift_page
from layertap.workflows.extract import BeforeExtraction, cache_for, stored_or_extracted
from layertap.workflows.load_dataset import Source, image_dataset, load_dataset
from transfer.data.dataset import IdentifiedDataset, Unreadable
from transfer.extraction.feature_set import FeatureSet
from transfer.request import FeatureRequest
from transfer.search.neighbors import nearest

SAMPLE = 1000  # images of each data set in the test, whose memory grows with their square
SAMPLE_OF_DISTANCES = 2000  # old images by which distances are judged
NEIGHBORS = 20
FAR = 0.99  # share of the old images that are nearer to other old images than an image that counts as far
HEAD = ("id", "label", "distance", "rank", "nearest")


@dataclass(frozen=True, eq=False, repr=False)
class Drift:
    """New images beside old ones.

    Attributes
    ----------
    old, new : IdentifiedDataset
        The images that can be read.
    spec : FeatureSpec
        The features that were compared.
    test : TwoSampleTest
        Of at most 1,000 images of each, drawn by the seed.
    distances : ndarray of shape (new,), float64
        The mean Euclidean distance of each new image to its 20 nearest old ones.
    ranks : ndarray of shape (new,), float64
        The share of the old images that are not as far from the other old ones: near 1 for an image unlike them.
    order : ndarray of shape (new,), int64
        Positions in `new`, those furthest from the old ones first.
    nearest : ndarray of shape (new,), int64
        The position in `old` of the image that is nearest to each new one.
    skipped : tuple of Unreadable
        Images that could not be read.
    notes : tuple of str
        Sentences about what the numbers do not show.
    """

    old: IdentifiedDataset
    new: IdentifiedDataset
    spec: FeatureSpec
    test: TwoSampleTest
    distances: np.ndarray
    ranks: np.ndarray
    order: np.ndarray
    nearest: np.ndarray
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Drift of {self.new.name!r} from {self.old.name!r}: p = {self.test.p_value:.4g}, {self.far:.1%} far>"

    @property
    def far(self) -> float:
        """The share of the new images that are further from the old ones than 99 % of these are from each other."""
        return float((self.ranks >= FAR).mean())

    def rows(self) -> list[tuple[Any, ...]]:
        """A heading, and a row for each new image, the furthest first: what a CSV file holds."""
        labels = [""] * len(self.new) if self.new.labels is None else self.new.labels.tolist()
        found = [
            (
                self.new.ids[place],
                labels[place],
                float(self.distances[place]),
                float(self.ranks[place]),
                self.old.ids[self.nearest[place]],
            )
            for place in self.order.tolist()
        ]
        return [HEAD, *found]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "old": {"data": self.old.name, "images": len(self.old)},
            "new": {"data": self.new.name, "images": len(self.new)},
            "space": self.spec.folder_name,
            "test": vars(self.test),
            "far": self.far,
            "images": [dict(zip(HEAD, row, strict=True)) for row in self.rows()[1:]],
            "skipped": [{"id": one.id, "reason": one.reason} for one in self.skipped],
            "notes": list(self.notes),
        }

    def write_page(self, file: str | Path) -> None:
        """Write a page with the images that are furthest away; it needs no file beside it and no network.

        Raises
        ------
        StorageFailure
            When it cannot be written.
        """
        drift_page.write(Path(file), self)


def drift(
    old: Source,
    new: Source,
    features: FeatureSet | FeatureRequest,
    *,
    seed: int = 0,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
    before_extraction: BeforeExtraction | None = None,
) -> Drift:
    """Compare new images with old ones by their features; those that the cache lacks are extracted first.

    Whether both come from one distribution is answered by the kernel two-sample test (see
    `layertap.analysis.two_samples`). It is about all images together: also a single new image can be far from all
    old ones, which its distance and its rank tell.

    Parameters
    ----------
    old, new : Dataset, or what `layertap.load_dataset` takes
        The images to compare with, such as those that a head was trained on, and the images to judge.
    features : FeatureSet or FeatureRequest
        The features that are compared, of one layer: what `layertap.extract` returns, or a request. Of several views of
        an image, the first is compared.
    seed : int
        Of the samples and of the permutations.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder; by default that of the `features`, or the default cache.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.
    before_extraction : callable, optional
        See `layertap.workflows.extract.BeforeExtraction`.

    Raises
    ------
    InvalidChoice
        When the features are of several layers.
    BadImage
        When an image cannot be read, unless such images are skipped.
    BadData
        When there are fewer than two images of one kind, or features are infinite or not numbers.

    Examples
    --------
    >>> import layertap as lt
    >>> digits = lt.load_dataset("digits")
    >>> features = lt.extract(digits, "glyphnet", layers=["block4_pool"], progress=False)
    >>> old, new = digits.select(digits.labels < "5"), digits.select(digits.labels >= "5")
    >>> found = lt.drift(old, new, features, progress=False)
    >>> found.test.p_value < 0.01, found.far > 0.1
    (True, True)
    """
    bars = progress_bars(progress)
    stored = partial(stored_or_extracted, cache=cache_for(features, cache), on_error=on_error, progress=bars)
    if isinstance(features, FeatureSet):
        if features.request is None:
            raise InvalidChoice("these features do not record their net; take those that layertap.extract returns.")
        features = features.request
    first = stored(load_dataset(old), features, before=before_extraction)
    if len(first) != 1:
        raise InvalidChoice(f"drift is told by the features of one layer; choose one of {', '.join(first)}.")
    assert first.request is not None
    second = stored(image_dataset(new), first.request, before=before_extraction)
    for part in (first, second):
        if len(part.dataset) < 2:
            name, count = part.dataset.name, len(part.dataset)
            raise BadData(f"drift needs at least 2 images on each side; {name} has {count} that can be read.")
    layer = next(iter(first))
    old_rows, new_rows = first.plain_rows(layer), second.plain_rows(layer)
    rng = np.random.default_rng(seed)
    samples = [_drawn(rows, SAMPLE, rng) for rows in (old_rows, new_rows)]
    test = mmd_test(*samples, seed=seed)
    neighbors = nearest(old_rows, np.asarray(new_rows[:]), min(NEIGHBORS, len(old_rows)), metric="euclidean")
    distances = neighbors.distances.mean(axis=1)
    usual = np.sort(_usual_distances(old_rows, rng))
    ranks = np.searchsorted(usual, distances) / len(usual)
    return Drift(
        first.dataset,
        second.dataset,
        first.specs[0],
        test,
        distances,
        ranks,
        np.argsort(-distances, kind="stable"),
        neighbors.rows[:, 0],
        (*first.skipped, *second.skipped),
        tuple(_notes(first.dataset, second.dataset)),
    )


def _drawn(rows: Features, most: int, rng: np.random.Generator) -> np.ndarray:
    """Some rows, each as a vector: shape (most, d) at most."""
    chosen = np.sort(rng.permutation(len(rows))[:most])
    return np.asarray(rows.take(chosen)[:], np.float64).reshape(len(chosen), -1)


def _usual_distances(rows: Features, rng: np.random.Generator) -> np.ndarray:
    """The mean distance of old images to the nearest others of them: what those of new images are compared with."""
    chosen = np.sort(rng.permutation(len(rows))[:SAMPLE_OF_DISTANCES])
    near = nearest(rows, np.asarray(rows.take(chosen)[:]), min(NEIGHBORS + 1, len(rows)), metric="euclidean")
    own = near.rows == chosen[:, None]
    own[~own.any(axis=1), -1] = True  # among many equal rows it may not have found itself
    return near.distances[~own].reshape(len(chosen), -1).mean(axis=1)


def _notes(old: IdentifiedDataset, new: IdentifiedDataset) -> Sequence[str]:
    known = set(digest_keys(old.digests))
    both = sum(key in known for key in digest_keys(new.digests))
    if not both:
        return []
    return [f"{both:,} of the {len(new):,} new images are among the old ones, too, which makes them seem more alike."]
