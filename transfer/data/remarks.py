"""What decoding has guessed or left out, gathered over the images of a data set, by many threads."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+")


@dataclass
class _Kind:
    """Remarks that differ in their numbers alone: how many images they are true of, and the one to be shown."""

    remark: str
    image: str
    images: int = 0
    differ: bool = False


class Remarks:
    """Remarks on images, of each kind one, with how many images it is true of.

    Of those that differ in numbers alone the one with the largest is kept, as that of the depth that serves for all.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}

    def add(self, remarks: list[str], image: str) -> None:
        """Add remarks on the image of this id."""
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
    """How many other images a remark is true of."""
    if kind.images == 1:
        return ""
    others = f" and {kind.images - 1:,} more image{'s' * (kind.images > 2)}"
    return f"{others}, some with smaller numbers" if kind.differ else others
