"""`IdentifiedDataset`: a data set that knows the digests of its images. They are computed once and carried along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.keys import DigestMemo, row_keys
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset, Unreadable, digests
from transfer.data.groups import copy_groups, identity_digests, merge_groups, page_groups

# It is called with the number of images decoded, and of all that have to be.
Progress = Callable[[int, int], None]


def identify(dataset: Dataset, cache: FeatureCache | DigestMemo) -> IdentifiedDataset:
    """The data set with the digest of every image; a data set that has them is returned as it is.

    Parameters
    ----------
    cache : FeatureCache or DigestMemo
        Its memo remembers the digests of files, so that unchanged files are not read again.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> known = identify(load("digits"), FeatureCache("features"))
    >>> known.digests.shape, known.unreadable
    ((1797, 16), ())
    """
    if isinstance(dataset, IdentifiedDataset):
        return dataset
    memo = cache.memo if isinstance(cache, FeatureCache) else cache
    content, unreadable = digests(dataset, memo)
    plain = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    return IdentifiedDataset(**plain, digests=content, unreadable=tuple(unreadable), memo=memo)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IdentifiedDataset(Dataset):
    """A data set whose images have been identified by their content (see `Dataset.identify`).

    It is used wherever a data set is. What is selected from it is identified, too.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        The digest of the content of every image; zeros for the unreadable.
    unreadable : tuple of Unreadable
        The images that could not be read, in their order. A file that is damaged further inside is found out only
        when it is decoded.
    memo : DigestMemo
        What remembers the digests of files and of pixels.
    """

    digests: np.ndarray
    unreadable: tuple[Unreadable, ...]
    memo: DigestMemo

    def select(self, chosen: np.ndarray) -> IdentifiedDataset:
        """The images at these positions, or where a boolean array is true."""
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        part = super().select(positions)
        plain = {field.name: getattr(part, field.name) for field in fields(Dataset)}
        names = set(part.ids)
        unreadable = tuple(problem for problem in self.unreadable if problem.id in names)
        return IdentifiedDataset(**plain, digests=self.digests[positions], unreadable=unreadable, memo=self.memo)

    @cached_property
    def first_of_each(self) -> np.ndarray:
        """The positions of the first image of each content, in order, without the unreadable: int64."""
        unreadable = {problem.id for problem in self.unreadable}
        distinct: dict[bytes, int] = {}
        for position, (content, name) in enumerate(zip(self._contents, self.ids, strict=True)):
            if name not in unreadable:
                distinct.setdefault(content, position)
        return np.array(list(distinct.values()), dtype=np.int64)

    def with_content_of(self, undecodable: Mapping[int, BadImage]) -> list[Unreadable]:
        """Every image with the content of one that could not be decoded.

        Parameters
        ----------
        undecodable : mapping of int to BadImage
            The reason, by the position of the image.
        """
        if not undecodable:
            return []
        errors = {self._contents[position]: error for position, error in undecodable.items()}
        return [
            Unreadable(name, errors[content].reason, str(errors[content]))
            for name, content in zip(self.ids, self._contents, strict=True)
            if content in errors
        ]

    def groups(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """Numbers of shape (n,), int64, that are equal for copies of an image, and for the pages of one file.

        Parameters
        ----------
        specs : iterable of FeatureSpec
            Images are copies if one of these makes the same pixels of them (see `transfer.data.groups.copy_groups`).
        """
        return merge_groups(self.copy_groups(specs, progress), page_groups(self))

    def copy_groups(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """Numbers of shape (n,), int64, that are equal for copies (see `transfer.data.groups.copy_groups`)."""
        return copy_groups(self, self.digests, specs, self.memo, progress)

    def identity_digests(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """What each image is recognised by: shape (n, k, 16), uint8 (see `transfer.data.groups.identity_digests`)."""
        return identity_digests(self, self.digests, specs, self.memo, progress)

    @cached_property
    def _contents(self) -> Sequence[bytes]:
        """The digests as keys of a dictionary."""
        keys: Any = row_keys(self.digests, np.zeros(len(self.digests), np.uint32))
        return keys
