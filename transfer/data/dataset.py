"""`Dataset`, and `IdentifiedDataset`, which knows the digests of its images and carries them along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.spec import FeatureSpec
from transfer.data.containers.member_sources import selected
from transfer.data.containers.packed_names import select_names
from transfer.data.copies.groups import copy_groups, merge_groups, page_groups
from transfer.data.copies.pixel_digests import identity_digests
from transfer.data.dataset_html import dataset_html
from transfer.data.image_collection import Unreadable, digests
from transfer.data.images import ImageSource

if TYPE_CHECKING:
    from transfer.data.corrections import Corrections

# It is called with the number of images decoded, and the number of all that have to be.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images with their ids and, perhaps, labels. No image is read until its pixels are needed.

    Attributes
    ----------
    name : str
        The name or path that the data set was loaded by.
    ids : sequence of str
        Unique: the path below the folder, the id in a table, or the number of the image in an array.
    sources : sequence of ImageSource
        What each image is read from.
    labels : ndarray of shape (n,), str, or None
    columns : mapping of str to ndarray of shape (n,), object
        The columns of a table, by name (see `transfer.data.columns`).
    empty_classes : tuple of str
        Names of class folders that hold no file.
    notes : tuple of str
        What was guessed, skipped, or read in another way than its owner may mean: a sentence each.
    options : mapping, optional
        The arguments by which `layertap.load_dataset` gives this data set again, but for those left at their defaults;
        None for images in memory, and for a part of a data set.
    corrections : Corrections, optional
        The decisions that were applied (see `transfer.data.corrections`).

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> digits = load("digits")
    >>> digits
    Dataset('digits', 1,797 images, 10 classes)
    >>> digits.labels[:3].tolist()
    ['0', '1', '2']
    """

    name: str
    ids: Sequence[str]
    sources: Sequence[ImageSource]
    labels: np.ndarray | None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    empty_classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    corrections: Corrections | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> ImageSource:
        """The source of an image: what scikit-learn takes to split a data set."""
        return self.sources[position]

    def __repr__(self) -> str:
        parts = [repr(self.name), f"{len(self):,} image{'s' * (len(self) != 1)}"]
        counts = self.class_counts
        parts.append("no labels" if counts is None else f"{len(counts):,} class{'es' * (len(counts) != 1)}")
        if self.columns:
            parts.append(f"{len(self.columns):,} column{'s' * (len(self.columns) != 1)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: classes, their counts and a few small pictures."""
        return dataset_html(self.name, self.ids, self.sources, self.labels, self.class_counts)

    @property
    def class_counts(self) -> dict[str, int] | None:
        """The number of images of each class, by its name, in the order of the names; None without labels.

        Examples
        --------
        >>> from transfer.data.datasets import load
        >>> load("digits").class_counts["0"]
        178
        """
        if self.labels is None:
            return None
        names, counts = np.unique(self.labels, return_counts=True)
        present = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return {name: present.get(name, 0) for name in sorted({*present, *self.empty_classes})}

    def select(self, chosen: np.ndarray) -> Dataset:
        """The data set of some of the images.

        Parameters
        ----------
        chosen : ndarray of int, the positions of the images, or ndarray of shape (n,), bool

        Examples
        --------
        >>> from transfer.data.datasets import load
        >>> digits = load("digits")
        >>> digits.select(digits.labels == "7")
        Dataset('digits', 179 images, 1 class)
        """
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return Dataset(
            self.name,
            select_names(self.ids, positions),
            selected(self.sources, positions),
            None if self.labels is None else self.labels[positions],
            {name: values[positions] for name, values in self.columns.items()},
            self.empty_classes,
            self.notes,
            corrections=self.corrections,
        )

    def page_groups(self) -> np.ndarray:
        """Group numbers of shape (n,), int64: equal for the pages of a file, and for the boxes in an image.

        See `transfer.data.copies.groups.page_groups`.
        """
        return page_groups(self)

    def identify(self, cache: FeatureCache | DigestMemo) -> IdentifiedDataset:
        """The same data set with the digest of every image, which is computed once and carried along.

        Parameters
        ----------
        cache : FeatureCache or DigestMemo
            Its memo knows the digests of files, so that unchanged files are not read again.

        Examples
        --------
        >>> from transfer.data.datasets import load
        >>> known = load("digits").identify(FeatureCache("features"))
        >>> known.digests.shape, known.unreadable
        ((1797, 16), ())
        """
        memo = cache.memo if isinstance(cache, FeatureCache) else cache
        content, unreadable = digests(self, memo)
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return IdentifiedDataset(**plain, digests=content, unreadable=tuple(unreadable), memo=memo)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IdentifiedDataset(Dataset):
    """A data set whose images have been identified by their content (see `Dataset.identify`).

    It can be used wherever a data set can. A selection of its images is identified, too.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        The digest of the content of every image; zeros for the unreadable.
    unreadable : tuple of Unreadable
        The images that could not be read, in their order. Damage further inside a file shows only when the image is
        decoded.
    memo : DigestMemo
        The memo of the digests of files and of pixels.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> known = load("digits").identify(FeatureCache("features"))
    >>> known.select(known.labels == "7")
    IdentifiedDataset('digits', 179 images, 1 class)
    """

    digests: np.ndarray
    unreadable: tuple[Unreadable, ...]
    memo: DigestMemo

    def identify(self, cache: FeatureCache | DigestMemo) -> IdentifiedDataset:
        """The data set itself: its digests are known."""
        return self

    def select(self, chosen: np.ndarray) -> IdentifiedDataset:
        """The images at these positions, or where a boolean array is true."""
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        part = super().select(positions)
        plain = {field.name: getattr(part, field.name) for field in fields(Dataset)}
        names = set(part.ids)
        unreadable = tuple(problem for problem in self.unreadable if problem.id in names)
        return IdentifiedDataset(**plain, digests=self.digests[positions], unreadable=unreadable, memo=self.memo)

    @property
    def first_of_each(self) -> np.ndarray:
        """The positions of the first image of each content, in order, without the unreadable: int64."""
        return np.flatnonzero(self._is_first)

    @cached_property
    def _is_first(self) -> np.ndarray:
        """Whether each image can be read and is the first of its content. The positions would take more memory."""
        heads, tails = np.ascontiguousarray(self.digests).view(np.uint64).T
        order = np.argsort(heads, kind="stable")
        like_next = heads[order[1:]] == heads[order[:-1]]
        is_shared = np.zeros(len(order), bool)
        is_shared[1:] = like_next
        is_shared[:-1] |= like_next
        # Few: those whose first half another digest has, too. Sorting is stable: of equal contents, the first is first.
        shared = order[is_shared]
        shared = shared[np.lexsort((tails[shared], heads[shared]))]
        before, after = shared[:-1], shared[1:]
        is_first = np.any(self.digests, axis=1)
        is_first[after[(heads[before] == heads[after]) & (tails[before] == tails[after])]] = False
        return is_first

    def with_content_of(self, undecodable: Mapping[int, BadImage]) -> list[Unreadable]:
        """All images that have the same content as an image that cannot be decoded.

        Parameters
        ----------
        undecodable : mapping of int to BadImage
            The error of each image that cannot be decoded, by the position of the image.
        """
        if not undecodable:
            return []
        errors = {self.digests[position].tobytes(): error for position, error in undecodable.items()}
        contents = (digest.tobytes() for digest in self.digests)
        return [
            Unreadable(name, errors[content].reason, str(errors[content]))
            for name, content in zip(self.ids, contents, strict=True)
            if content in errors
        ]

    def groups(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """Group numbers of shape (n,), int64: equal for copies of an image, and for the pages of one file.

        Parameters
        ----------
        specs : iterable of FeatureSpec
            Images are copies if one of these makes the same pixels of them (see `copy_groups`).
        """
        return merge_groups(self.copy_groups(specs, progress), self.page_groups())

    def page_groups(self) -> np.ndarray:
        """Group numbers of shape (n,), int64: equal for the pages of files of one content, and for boxes in them."""
        return page_groups(self, self.memo)

    def copy_groups(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """Group numbers of shape (n,), int64: equal for copies (see `transfer.data.copies.groups.copy_groups`)."""
        return copy_groups(self, self.digests, specs, self.memo, progress)

    def identity_digests(self, specs: Iterable[FeatureSpec], progress: Progress | None = None) -> np.ndarray:
        """Digests of shape (n, k, 16), uint8, by which copies of each image are recognised in other files.

        See `transfer.data.copies.pixel_digests.identity_digests`.
        """
        return identity_digests(self, self.digests, specs, self.memo, progress)
