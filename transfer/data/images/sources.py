"""Where an image comes from: a file, a page of one, or an array."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage, first_line
from feature_cache.files.checked import open_regular
from feature_cache.files.digest_memo import FileStamp
from feature_cache.keys import digest_array, digest_bytes
from transfer.data.images.cost import MAX_BYTES, MAX_PIXELS
from transfer.data.images.opening import open_picture
from transfer.data.images.picture import Picture, PillowPicture

# The content of the file whose pages are being read, and its digest: each page needs both.
_LATEST: dict[FileStamp, tuple[bytes, bytes]] = {}
_LOCK = threading.Lock()


class ImageSource(Protocol):
    """An object that an image can be read from."""

    def load(self) -> tuple[bytes, Picture]:
        """The digest of the content, and the image, of which perhaps only the header has been decoded."""

    def stamp(self) -> FileStamp | None:
        """Path, size and time of the last change of a file; None where there is no file."""


class EncodedSource:
    """An image whose encoded bytes can be read: a file, or a member of a container.

    Subclasses say where the bytes come from by `read`, `stamp` and `whole`; what is done with them is the same for all.
    """

    if TYPE_CHECKING:  # fields here would come before those of a subclass

        @property
        def page(self) -> int | None: ...
        @property
        def max_pixels(self) -> int: ...

    def changed(self, **options: int | None) -> EncodedSource:
        """The same image, with another page or another limit on pixels."""
        changed: EncodedSource = replace(self, **options)  # type: ignore[type-var]  # subclasses are dataclasses
        return changed

    def read(self) -> bytes:
        """The encoded bytes.

        Raises
        ------
        BadImage
            When they cannot be read, or are too many.
        """
        raise NotImplementedError

    def stamp(self) -> FileStamp | None:
        """Name, size and time of the last change, by which unchanged bytes are recognised; None where there is none."""
        raise NotImplementedError

    @property
    def is_part(self) -> bool:
        """Whether the image is one of several in its file, such as a page."""
        return self.page is not None

    @property
    def whole(self) -> object:
        """A key that the pages of one file share."""
        raise NotImplementedError

    @property
    def file(self) -> ImageSource:
        """The whole file, which may be the image itself."""
        return self if self.page is None else self.changed(page=None)

    def announce(self) -> int:
        """Say that the image will be read soon; the number of bytes that are fetched for it, 0 for one on disk."""
        return 0

    def load(self) -> tuple[bytes, Picture]:
        """The digest of the content, and the image, of which perhaps only the header has been decoded.

        Raises
        ------
        BadImage
            When the file is missing, too large, empty, not a regular file, or of no known format.
        """
        encoded, file_digest = self._content()
        if not encoded:
            raise BadImage(f"the image {self._name} is empty (0 bytes).", "empty (0 bytes)")
        try:
            picture = open_picture(encoded, page=self.page, max_pixels=self.max_pixels)
        except BadImage as error:
            raise BadImage(f"{self._name} {error.reason}.", error.reason) from error
        except Exception as error:  # a damaged file may make a decoder raise any error
            reason = f"not an image that can be read ({reason_of(error)})"
            raise BadImage(f"{self._name} is {reason}.", reason) from error
        return self._digest(file_digest or digest_bytes(encoded), picture.recipe), picture

    @property
    def _name(self) -> str:
        """The name of the file in messages, without a page."""
        raise NotImplementedError

    def _content(self) -> tuple[bytes, bytes | None]:
        """The bytes of the file and, where it is read page by page, their digest; both are kept for the next page."""
        status = None if self.page is None else self.stamp()
        if status is None:
            return self.read(), None
        status = status[0].removesuffix(f"#{self.page}"), *status[1:]
        with _LOCK:
            if status not in _LATEST:
                _LATEST.clear()
                encoded = self.read()
                _LATEST[status] = encoded, digest_bytes(encoded)
            return _LATEST[status]

    def _digest(self, digest: bytes, recipe: int) -> bytes:
        """The digest of the image: that of the file, or another for a later page and for files of a later recipe."""
        parts = [f"page {self.page}"] * bool(self.page) + [f"recipe {recipe}"] * (recipe > 1)
        return digest_bytes(digest + ", ".join(parts).encode()) if parts else digest

    def __str__(self) -> str:
        return self._name if self.page is None else f"{self._name}#{self.page}"


def require_size(size: int, name: str, max_pixels: int) -> None:
    """Raise BadImage where the encoded bytes of an image are more than are read.

    Parameters
    ----------
    size : int
        Their number.
    name : str
        The name of the image in messages.
    max_pixels : int
        The most pixels that are decoded of an image; a higher limit allows more bytes.
    """
    max_size = MAX_BYTES * max(1.0, max_pixels / MAX_PIXELS)
    if size > max_size:
        reason = f"{size / 1e9:.1f} GB large, where {max_size / 1e9:.1f} GB are allowed; raise `max_pixels`"
        raise BadImage(f"the image {name} is {reason}.", reason)


@dataclass(frozen=True)
class FileSource(EncodedSource):
    """An image file, whose format is recognised by its content and not by its name.

    Parameters
    ----------
    path : Path
    page : int, optional
        The number of a page, from 0, where the image is one page of a file.
    max_pixels : int
        The most pixels that are decoded (see `transfer.data.images.cost`).

    Examples
    --------
    >>> Image.new("L", (30, 20)).save("black.png")
    >>> digest, picture = FileSource(Path("black.png")).load()
    >>> picture.format, picture.shape
    ('PNG', (20, 30))
    """

    path: Path
    page: int | None = None
    max_pixels: int = MAX_PIXELS

    def read(self) -> bytes:
        """The bytes of the file.

        Raises
        ------
        BadImage
            When it is missing, too large, or not a regular file.
        """
        try:
            with open_regular(self.path) as stream:
                require_size(os.fstat(stream.fileno()).st_size, str(self.path), self.max_pixels)
                return stream.read()
        except MemoryError as error:
            reason = "it does not fit into memory"
            raise BadImage(f"cannot read the image {self.path}: {reason}.", reason) from error
        except (OSError, ValueError) as error:
            if isinstance(error, BadImage):
                raise
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, FileNotFoundError) and self.path.is_symlink():
                reason = "it is a link to a file that is not there"
            raise BadImage(f"cannot read the image {self.path}: {reason}.", reason) from error

    def stamp(self) -> FileStamp | None:
        """Path, size and time of the last change; None where there is no such file."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return None
        name = str(self.path.absolute()) + (f"#{self.page}" if self.page else "")
        # A file that was moved over another keeps its time of modification, but the time of its status changes.
        return name, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)

    @property
    def whole(self) -> object:
        """The path, which the pages of one file share."""
        return self.path

    @property
    def _name(self) -> str:
        return str(self.path)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image in memory.

    Parameters
    ----------
    pixels : ndarray of shape (height, width), (height, width, 3) or (height, width, 4), uint8
    name : str
        The name of the image in messages.

    Examples
    --------
    >>> digest, picture = ArraySource(np.zeros((20, 30), np.uint8), "black").load()
    >>> picture.mode, picture.shape
    ('L', (20, 30))
    """

    pixels: np.ndarray
    name: str

    def load(self) -> tuple[bytes, Picture]:
        """The digest of the array, and the image."""
        return digest_array(self.pixels), self.picture()

    def picture(self) -> Picture:
        """The image alone, for which the array is not hashed."""
        return PillowPicture(Image.fromarray(self.pixels))

    def stamp(self) -> FileStamp | None:
        """None, because there is no file."""
        return None

    def __str__(self) -> str:
        return self.name


# Errors that a decoder raises where a damaged header leads it to values that it did not expect.
_UNEXPECTED = (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, UnicodeError, struct.error)


def reason_of(error: Exception) -> str:
    """Why a file could not be decoded, in one line that does not name the file."""
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than are decoded; raise `max_pixels`"
    if isinstance(error, _UNEXPECTED):
        return "its header is damaged"
    text = first_line(error)
    if text == "Truncated File Read":
        return "it is cut off in its header"
    return "not a known image format" if text.startswith("cannot identify image file") else text
