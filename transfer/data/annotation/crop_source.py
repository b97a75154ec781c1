"""`CropSource`: a box in an image, as an image of its own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from PIL import Image

from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import FileStamp
from feature_cache.keys import digest_bytes
from transfer.data.annotation.boxes import Box, upright
from transfer.data.images import DEFAULT, Decoding, EncodedSource, ImageSource, Picture
from transfer.data.images.orientation import SIDEWAYS
from transfer.data.images.strips import Strips

KEPT_PIXELS = 2**25  # a decoded image of at most so many pixels is kept for the next box in it
KEPT_HEADS = 64


@dataclass(frozen=True)
class CropSource(EncodedSource):
    """A box in an image.

    Its content is identified by that of the whole image and by the box. Its pixels are those of the whole image within
    the box, decoded at its full size and turned upright: a file that holds these has the same features.

    Parameters
    ----------
    source : ImageSource
        The whole image.
    box : (left, top, width, height)
        In pixels, within the image.
    size : (width, height), optional
        The size of the image that the box was drawn in: by default that of the upright image. Where it is the size
        before the image is turned upright by its EXIF orientation, and differs from the one after it, the box is
        turned, too.

    Examples
    --------
    >>> from pathlib import Path
    >>> from transfer.data.images import FileSource
    >>> Image.new("L", (30, 20)).save("black.png")
    >>> crop = CropSource(FileSource(Path("black.png")), (5, 6, 7, 8), (30, 20))
    >>> digest, picture = crop.load()
    >>> str(crop), picture.shape
    ('black.png#5,6,7,8', (8, 7))
    """

    source: ImageSource
    box: Box
    size: tuple[int, int] | None = None

    @property
    def is_part(self) -> bool:
        """True: several boxes may be in one image."""
        return True

    @property
    def whole(self) -> object:
        """A key that all boxes in one image share."""
        return self.source.whole if isinstance(self.source, EncodedSource) else self.source

    @property
    def file(self) -> ImageSource:
        """The whole image; the whole file where that is a page."""
        return self.source.file if isinstance(self.source, EncodedSource) else self.source

    def changed(self, **options: int | None) -> CropSource:
        """The same box, with another limit on the pixels of the whole image."""
        return replace(self, source=self.source.changed(**options)) if isinstance(self.source, EncodedSource) else self

    def stamp(self) -> FileStamp | None:
        """That of the file, with the box and the size that it goes with in the name."""
        status = self.source.stamp()
        if status is None:
            return None
        drawn_in = "" if self.size is None else "@{}x{}".format(*self.size)
        return f"{status[0]}#{box_text(self.box)}{drawn_in}", *status[1:]

    def announce(self) -> int:
        """Say that the whole image will be read soon."""
        return self.source.announce() if isinstance(self.source, EncodedSource) else 0

    def load(self) -> tuple[bytes, Picture]:
        """The digest of the image and the box, and the part of the image, of which perhaps only a header is decoded.

        Raises
        ------
        BadImage
            When the image cannot be read, or is not of the size that the box was drawn in.
        """
        head = _HEADS.read(self.source)
        left, top, width, height = self._box_in(head)
        digest = digest_bytes(head.digest + f"crop {left},{top},{width},{height}".encode())
        return digest, CroppedPicture(self.source, head, (left, top, left + width, top + height))

    def _box_in(self, head: _Head) -> Box:
        """The box in the upright image."""
        height, width = head.shape
        box, size = self.box, self.size or (width, height)
        if size == (height, width) != (width, height) and head.orientation in SIDEWAYS:
            box, size = upright(box, head.orientation, size), (width, height)
        if size != (width, height):
            reason = f"has {width} x {height} pixels, and its boxes were drawn in an image of {size[0]} x {size[1]}"
            raise BadImage(f"{self.source} {reason}.", reason)
        if min(box) < 0 or min(box[2:]) < 1 or box[0] + box[2] > width or box[1] + box[3] > height:
            reason = f"has {width} x {height} pixels, none or not all of which are its box {box_text(box)}"
            raise BadImage(f"{self.source} {reason}.", reason)
        return box

    @property
    def _name(self) -> str:
        return f"{self.source}#{box_text(self.box)}"

    def __str__(self) -> str:
        return self._name


def box_text(box: Box) -> str:
    """A box as it stands in an id: left, top, width and height.

    Examples
    --------
    >>> box_text((1, 2, 30, 40))
    '1,2,30,40'
    """
    return ",".join(map(str, box))


class CroppedPicture:
    """A `Picture` of the pixels within a box of another one.

    Parameters
    ----------
    source : ImageSource
        The whole image.
    head : _Head
        What was known of it when the box was looked up.
    box : (left, top, right, bottom)
        In pixels of the upright image.

    Attributes
    ----------
    whole : tuple of (FileStamp or None, bytes)
        The stamp and the digest of the whole image.
    """

    pages = 1
    orientation = 1

    def __init__(self, source: ImageSource, head: _Head, box: tuple[int, int, int, int]) -> None:
        self._source, self._head, self._box = source, head, box
        self.format, self.mode, self.bits, self.recipe = head.format, head.mode, head.bits, head.recipe
        self.whole = head.stamp, head.digest
        self.remarks: list[str] = []

    @property
    def page_numbers(self) -> list[int]:
        return [0]

    @property
    def shape(self) -> tuple[int, int]:
        left, top, right, bottom = self._box
        return bottom - top, right - left

    def decode(
        self, decoding: Decoding = DEFAULT, min_size: tuple[int, int] | None = None, name: str = "image"
    ) -> Image.Image | Strips:
        """The pixels within the box, in gray or colour of 8 bits; see `Picture.decode`.

        Parameters
        ----------
        min_size : (height, width), optional
            Not used: a JPEG that is decoded at a part of its size has no pixel at most edges of boxes.
        """
        image, self.remarks = _DECODED.read(self._source, self._head.digest, decoding, name)
        return image.crop(self._box)


@dataclass(frozen=True)
class _Head:
    """What is known of an image before it is decoded; see `Picture`."""

    stamp: FileStamp | None
    digest: bytes
    shape: tuple[int, int]
    orientation: int
    format: str
    mode: str
    bits: int
    recipe: int

    @classmethod
    def of(cls, stamp: FileStamp | None, digest: bytes, picture: Picture) -> _Head:
        return cls(
            stamp,
            digest,
            picture.shape,
            picture.orientation,
            picture.format,
            picture.mode,
            picture.bits,
            picture.recipe,
        )


class _Heads:
    """The heads of the images that were read last: threads that look up boxes in an image read it once."""

    def __init__(self) -> None:
        self._known: OrderedDict[FileStamp, _Head] = OrderedDict()
        self._lock = threading.Lock()
        self._reading = [threading.Lock() for _ in range(KEPT_HEADS)]

    def read(self, source: ImageSource) -> _Head:
        """The head of an image, read again where its file has changed.

        Raises
        ------
        BadImage
            When it cannot be read.
        """
        stamp = source.stamp()
        if stamp is None or isinstance(source, CropSource):  # whose image has its own lock
            return _Head.of(None, *source.load())
        with self._reading[hash(stamp) % KEPT_HEADS]:
            with self._lock:
                if head := self._known.get(stamp):
                    return head
            digest, picture = source.load()
            head = _Head.of(stamp, digest, picture)
            _DECODED.offer(stamp, digest, picture)
            with self._lock:
                self._known[stamp] = head
                if len(self._known) > KEPT_HEADS:
                    self._known.popitem(last=False)
            return head


class _Decoded(threading.local):
    """The image that a thread has decoded last, for the next box in it: boxes of an image come one after another."""

    def __init__(self) -> None:
        self._picture: tuple[FileStamp, bytes, Picture] | None = None  # of which no more than the header is decoded
        self._image: tuple[FileStamp, bytes, Decoding] | None = None
        self._pixels: tuple[Image.Image | Strips, list[str]] | None = None

    def offer(self, stamp: FileStamp, digest: bytes, picture: Picture) -> None:
        """Keep an image that was read, since it may be decoded next."""
        self._picture = stamp, digest, picture

    def read(
        self, source: ImageSource, digest: bytes, decoding: Decoding, name: str
    ) -> tuple[Image.Image | Strips, list[str]]:
        """The decoded image, and the remarks on it.

        Raises
        ------
        BadImage
            When the image has changed since it had this digest.
        Exception
            See `Picture.decode`.
        """
        stamp = source.stamp()
        if stamp is not None and self._image == (stamp, digest, decoding) and self._pixels is not None:
            return self._pixels
        self._image = self._pixels = None  # one image alone is in memory
        offered, self._picture = self._picture, None
        found, picture = offered[1:] if offered is not None and offered[0] == stamp else source.load()
        if found != digest:
            reason = "has changed while it was read"
            raise BadImage(f"{source} {reason}.", reason)
        height, width = picture.shape
        pixels = picture.decode(decoding, None, name), picture.remarks
        if stamp is not None and height * width <= KEPT_PIXELS:
            self._image, self._pixels = (stamp, digest, decoding), pixels
        return pixels


_HEADS, _DECODED = _Heads(), _Decoded()
