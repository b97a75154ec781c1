"""Images that a table names and that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from feature_cache.errors import BadImage
from transfer.data.images import FileSource


@dataclass(frozen=True)
class MissingFile(FileSource):
    """An image that a table names and that is not there: reading it fails with a message about all such ids."""

    message: str = ""
    reason: str = ""

    def load(self) -> NoReturn:
        raise BadImage(f"{self.message}.", self.reason)

    def stamp(self) -> None:
        """None: it is no file."""
