"""`MemberSources`: images in containers as a sequence that makes each source when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from feature_cache.process.memory import compact
from transfer.data.containers.container import Container, MemberSource
from transfer.data.images import ImageSource


@dataclass(frozen=True, eq=False)
class MemberSources(Sequence[ImageSource]):
    """The sources of images in containers, kept as two numbers each: a million objects would take 200 MB.

    Parameters
    ----------
    containers : tuple of Container
    numbers : ndarray of shape (n,), of an unsigned type
        The container of each image, by its place in `containers`.
    positions : ndarray of shape (n,), of an unsigned type
        The position of each image in its container.
    """

    containers: tuple[Container, ...]
    numbers: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, place: int) -> MemberSource: ...
    @overload
    def __getitem__(self, place: slice) -> MemberSources: ...
    def __getitem__(self, place: int | slice) -> MemberSource | MemberSources:
        if isinstance(place, slice):
            return MemberSources(self.containers, self.numbers[place], self.positions[place])
        return MemberSource(self.containers[self.numbers[place]], int(self.positions[place]))

    def select(self, chosen: np.ndarray) -> MemberSources:
        """The sources at these positions."""
        return MemberSources(self.containers, self.numbers[chosen], self.positions[chosen])


def in_one(container: Container, positions: Sequence[int] | np.ndarray) -> MemberSources:
    """The sources of images in one container."""
    return MemberSources((container,), np.zeros(len(positions), np.uint8), compact(positions))


def joined(parts: Sequence[MemberSources]) -> MemberSources:
    """The sources of several sequences, one after the other."""
    starts = np.cumsum([0, *(len(part.containers) for part in parts)])
    return MemberSources(
        tuple(container for part in parts for container in part.containers),
        np.concatenate([compact(part.numbers + start) for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.positions for part in parts]),
    )


def selected(sources: Sequence[ImageSource], chosen: np.ndarray) -> Sequence[ImageSource]:
    """The sources at these positions, of any sequence."""
    if isinstance(sources, MemberSources):
        return sources.select(chosen)
    return tuple(sources[place] for place in chosen)
