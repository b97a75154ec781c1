"""`Container`, the interface of whatever holds the bytes of many images, and `MemberSource`, an image in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import FileStamp
from transfer.data.images import MAX_PIXELS, EncodedSource
from transfer.data.images.sources import require_size


class StoredFile(Protocol):
    """A file that is read at any place, on disk or elsewhere; its text is its path in messages."""

    def size(self) -> int:
        """The number of bytes; 0 where it is not there."""

    def stamp_of(self, name: str) -> tuple[str, int] | None:
        """The stamp of a member with this name; see `Container.stamp`."""

    def open(self) -> BinaryIO:
        """The file as a stream, opened once more."""

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end of the file."""

    def announce(self, offset: int, count: int) -> int:
        """Say that these bytes will be read soon; the number of bytes that are fetched for it."""


class Container(Protocol):
    """The encoded bytes of many images, by position. Several threads read at the same time."""

    def name(self, position: int) -> str:
        """The name of a member in messages and in the memo of digests."""

    def size(self, position: int) -> int:
        """The number of bytes of a member, as the container declares it."""

    def read(self, position: int) -> bytes:
        """The bytes of a member.

        Raises
        ------
        ValueError
            When the member cannot be read; the text says why, without the name.
        OSError
            When the container cannot be read.
        """

    def stamp(self, position: int) -> tuple[str, int] | None:
        """By what an unchanged member is recognised; None where there is nothing of the kind.

        Returns
        -------
        name : str
            The absolute path or the URL of the member, with the size or the version of what holds it.
        time : int
            The time of the last change in nanoseconds; 0 where the name has a version.
        """

    def announce(self, position: int) -> int:
        """Say that a member will be read soon; the number of bytes that are fetched for it, 0 for one on disk."""


@dataclass(frozen=True)
class MemberSource(EncodedSource):
    """An image in a container.

    Parameters
    ----------
    container : Container
    position : int
        The position of the member.
    page : int, optional
        The number of a page, from 0, where the image is one page of a file.
    max_pixels : int
        The most pixels that are decoded (see `transfer.data.images.cost`).
    """

    container: Container
    position: int
    page: int | None = None
    max_pixels: int = MAX_PIXELS

    def read(self) -> bytes:
        """The bytes of the member.

        Raises
        ------
        BadImage
            When they cannot be read, are damaged, or too many.
        """
        require_size(self.container.size(self.position), self._name, self.max_pixels)
        try:
            content = self.container.read(self.position)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadImage(f"cannot read the image {self._name}: {reason}.", reason) from error
        require_size(len(content), self._name, self.max_pixels)  # a table does not say it before
        return content

    def stamp(self) -> FileStamp | None:
        """The name of the member with the page; the size of the member; and the time of the container."""
        found = self.container.stamp(self.position)
        if found is None:
            return None
        page = f"#{self.page}" if self.page else ""
        return found[0] + page, self.container.size(self.position), found[1]

    def announce(self) -> int:
        """Say that the image will be read soon; see `Container.announce`."""
        return self.container.announce(self.position)

    @property
    def whole(self) -> object:
        """The container and the position, which the pages of one member share."""
        return id(self.container), self.position

    @property
    def _name(self) -> str:
        return self.container.name(self.position)
