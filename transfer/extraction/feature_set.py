"""`FeatureSet`: the features of a data set at one layer or several, with the images that they belong to."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from feature_cache.features import Features
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.remote.storage import shown
from feature_cache.spec import FeatureSpec
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Unreadable
from transfer.search.index import nearest_by_index
from transfer.search.neighbors import Metric, Neighbors, nearest

if TYPE_CHECKING:
    from transfer.extraction.report import Report
    from transfer.request import FeatureRequest


@dataclass(frozen=True, eq=False, repr=False)
class FeatureSet(Mapping[str, Features]):
    """Features that are stored in a cache: a mapping from the name of a layer to a lazy array.

    Attributes
    ----------
    dataset : IdentifiedDataset
        The images that have features, in the order of the rows; those that were skipped are left out.
    features : dict of str to Features
        The mapping itself. Arrays have the shape (n * views, ...): all views of an image one after another.
    specs : tuple of FeatureSpec
        The specs that identify the features of each layer.
    cache : FeatureCache
        The cache in which they are stored.
    skipped : list of Unreadable
        Images that could not be read or decoded.
    request : FeatureRequest, optional
        The request that the features belong to; None if a space was read by its name.
    report : Report, optional
        The report of the extraction that computed them, if there was one.

    Examples
    --------
    >>> import tempfile
    >>> import layertap as lt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     features = lt.extract("digits", "glyphnet", layers=["block4_pool"], cache=folder, progress=False)
    ...     first = features["block4_pool"][:2]
    >>> list(features), features["block4_pool"].shape, first.shape
    (['block4_pool'], (1797, 256), (2, 256))
    """

    dataset: IdentifiedDataset
    features: dict[str, Features]
    specs: tuple[FeatureSpec, ...]
    cache: FeatureCache
    skipped: list[Unreadable]
    request: FeatureRequest | None = None
    report: Report | None = None

    def __getitem__(self, layer: str) -> Features:
        return self.features[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def digests(self) -> np.ndarray:
        """The digests of the images: shape (n, 16), uint8."""
        return self.dataset.digests

    @property
    def memo(self) -> DigestMemo:
        """What remembers the digests of files and of pixels."""
        return self.dataset.memo

    @cached_property
    def groups(self) -> np.ndarray:
        """Numbers of shape (n,), int64, that are equal for copies of an image, and for the pages of one file."""
        return self.dataset.groups(self.specs)

    def plain_rows(self, layer: str) -> Features:
        """The features of the plain images at a layer, without their other views: shape (n, ...)."""
        rows = self[layer]
        views = len(rows) // max(1, len(self.dataset))
        return rows if views <= 1 else rows.take(np.arange(len(self.dataset)) * views)

    def search(
        self,
        query: np.ndarray,
        k: int = 12,
        *,
        layer: str | None = None,
        metric: Metric = "cosine",
        index: bool = False,
    ) -> Neighbors:
        """The images whose features are nearest to those of queries; exact, by one pass over the rows.

        Parameters
        ----------
        query : ndarray of shape (...), a row of features, or (queries, ...)
            Features of the same space.
        k : int
            The number of images; of fewer, all are returned.
        layer : str, optional
            The layer; it may be left out where there is one.
        metric : {'cosine', 'euclidean'}
        index : bool
            Whether an approximate index answers (see `transfer.search.index`).

        Returns
        -------
        Neighbors
            Its `rows` are positions in `dataset`, an array of shape (queries, k); one query is an array of one row.

        Raises
        ------
        InvalidChoice
            When there are several layers and none is named, or `k` is not positive.
        BadData
            When the query is of another shape than the rows, or features are infinite or not numbers.

        Examples
        --------
        >>> import layertap as lt
        >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
        >>> found = features.search(features["block4_pool"][7], k=3)
        >>> found.rows.shape, int(found.rows[0, 0])
        ((1, 3), 7)
        """
        if layer is None and len(self) != 1:
            raise InvalidChoice(f"there are features of {len(self)} layers; choose one with `layer`.")
        rows = self.plain_rows(next(iter(self)) if layer is None else layer)
        query = np.asarray(query)
        queries = query[None] if query.ndim < rows.ndim else query
        return nearest_by_index(rows, queries, k, metric=metric) if index else nearest(rows, queries, k, metric=metric)

    def __repr__(self) -> str:
        nets = " and ".join(dict.fromkeys(spec.net for spec in self.specs))
        layers = ", ".join(f"{layer} {array.shape} {array.dtype}" for layer, array in self.items())
        return f"FeatureSet({self.dataset.name!r} by {nets}, in {self.cache}: {layers})"

    def _repr_html_(self) -> str:
        """A table for notebooks: a row for each layer, with its net, its shape and its folder."""
        heads = "".join(f"<th>{head}</th>" for head in ("layer", "net", "pooling", "shape", "dtype", "folder"))
        rows = []
        for spec, (layer, array) in zip(self.specs, self.items(), strict=True):
            shape = " × ".join(map(str, array.shape))
            cells = (layer, spec.net, spec.pooling, shape, array.dtype, shown(array.space.folder))
            rows.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
        skipped = f", {len(self.skipped):,} skipped" if self.skipped else ""
        caption = html.escape(f"Features of {self.dataset.name}: {len(self.dataset):,} images{skipped}")
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
