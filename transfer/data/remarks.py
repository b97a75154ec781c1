"""Remarks on decoding, of what was guessed or left out, collected by many threads over the images of a data set."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+")


@dataclass
class _Kind:
    """Remarks that differ in nothing but numbers: the one to be shown, and the number of images that they hold for."""

    remark: str
    image: str
    images: int = 0
    differ: bool = False


class Remarks:
    """Remarks on images: one of each kind, with the number of images that it holds for.

    Of remarks that differ in nothing but numbers, the one with the largest numbers is shown: the depth that it names
    serves for all these images.

    Examples
    --------
    >>> remarks = Remarks()
    >>> remarks.add(["of its 2 pages the first is read"], "a.tif")
    >>> remarks.add(["of its 3 pages the first is read"], "b.tif")
    >>> remarks.lines()
    ['b.tif and 1 more image, some with smaller numbers: of its 3 pages the first is read.']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}

    def add(self, remarks: list[str], image: str) -> None:
        """Add remarks on the image whose id is `image`."""
        if not remarks:
            return
        with self._lock:
            for remark in remarks:
                kind = self._kinds.setdefault(_NUMBER.sub("0", remark), _Kind(remark, image))
                kind.images += 1
                kind.differ |= remark != kind.remark
                old, new = _numbers(kind.remark), _numbers(remark)
                if new > old or (new == old and image < kind.image):
                    kind.remark, kind.image = remark, image

    def lines(self) -> list[str]:
        """A sentence for each kind of remark, the most frequent first."""
        with self._lock:
            kinds = sorted(self._kinds.values(), key=lambda kind: (-kind.images, kind.remark))
        return [f"{kind.image}{_and_more(kind)}: {kind.remark}." for kind in kinds]


def _numbers(remark: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(remark)]


def _and_more(kind: _Kind) -> str:
    """The number of other images that a remark holds for, as a part of its sentence."""
    if kind.images == 1:
        return ""
    others = f" and {kind.images - 1:,} more image{'s' * (kind.images > 2)}"
    return f"{others}, some with smaller numbers" if kind.differ else others
