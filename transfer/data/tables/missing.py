"""Images that a table names and whose files do not exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from feature_cache.errors import BadImage
from transfer.data.images import FileSource


@dataclass(frozen=True)
class MissingFile(FileSource):
    """An image that a table names and whose file does not exist: reading it raises an error about all such ids.

    Attributes
    ----------
    message : str
        A sentence about all missing files, without a full stop.
    reason : str
        The reason for this image.
    """

    message: str = ""
    reason: str = ""

    def load(self) -> NoReturn:
        raise BadImage(f"{self.message}.", self.reason)

    def stamp(self) -> None:
        """None, because there is no file."""
