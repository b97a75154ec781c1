"""What decoding has guessed or left out, gathered over the images of a data set, by many threads."""

from __future__ import annotations

import threading


class Remarks:
    """Remarks on images, each with how many images it is true of and the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images: dict[str, tuple[int, str]] = {}

    def add(self, remarks: list[str], image: str) -> None:
        """Add remarks on the image of this id."""
        if not remarks:
            return
        with self._lock:
            for remark in remarks:
                count, first = self._images.get(remark, (0, image))
                self._images[remark] = count + 1, min(first, image)

    def lines(self) -> list[str]:
        """A sentence for each different remark, the most frequent first."""
        with self._lock:
            found = sorted(self._images.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            f"{first}{f' and {count - 1} more images' if count > 1 else ''}: {remark}."
            for remark, (count, first) in found
        ]
