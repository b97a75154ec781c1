"""Images of a data set as thumbnails: one as a data URL, many as sheets of a limited size."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage
from transfer.data.images import DEFAULT, Decoding, ImageSource, thumbnail
from transfer.hardware import cores

SIDES = (64, 48, 40, 32, 28, 24, 20, 16, 12)  # of a tile of a sheet, in pixels
SHEET = 1024  # tiles of a sheet
TILES_IN_A_ROW = 32
SAMPLE = 256  # images by which the size of all sheets is estimated
QUALITY = 60
HEADERS = 16  # images by which the pixels of all are estimated
MOST_PIXELS = 200_000_000  # that are decoded for the thumbnails of a page, where there are many
GROUND = 238  # beside an image that is not square


@dataclass(frozen=True)
class SpriteSheets:
    """Thumbnails of many images, side by side in a few pictures. A browser decodes only those that it shows.

    Attributes
    ----------
    urls : tuple of str
        Pictures as data URLs. Image i is tile ``i % tiles`` of picture ``i // tiles``, from left to right and from top
        to bottom.
    side : int
        The sides of a tile in pixels.
    tiles : int
        The number of tiles of a picture.
    tiles_in_a_row : int
    """

    urls: tuple[str, ...]
    side: int
    tiles: int = SHEET
    tiles_in_a_row: int = TILES_IN_A_ROW


def affordable(sources: Sequence[ImageSource], most: int, least: int) -> int:
    """How many of these images a page may show without taking long to make, `least` or more and `most` or fewer.

    It depends on the pixels that the headers of a few images tell, and not on the speed of the machine.

    Examples
    --------
    >>> from transfer.data.images import ArraySource
    >>> [affordable([ArraySource(np.zeros((side, side), np.uint8), "gray")], 1000, 200) for side in (100, 600, 2000)]
    [1000, 555, 200]
    """
    sample = [sources[position] for position in np.unique(np.linspace(0, len(sources) - 1, HEADERS).astype(int))]
    pixels = []
    for source in sample:
        with contextlib.suppress(BadImage):
            pixels.append(math.prod(source.load()[1].shape))
    return most if not pixels else int(np.clip(MOST_PIXELS // max(1.0, np.mean(pixels)), least, most))


def thumbnail_url(source: ImageSource, longest: int = 96, decoding: Decoding = DEFAULT) -> str:
    """An image, upright and in its proportions, with no side above `longest`, as a data URL.

    Raises
    ------
    BadImage
        When it cannot be read.

    Examples
    --------
    >>> from transfer.data.images import ArraySource
    >>> thumbnail_url(ArraySource(np.zeros((8, 8, 3), np.uint8), "black"))[:23]
    'data:image/webp;base64,'
    """
    return data_url(thumbnail(source, longest, decoding))


def thumbnail_if_readable(source: ImageSource, longest: int = 96, decoding: Decoding = DEFAULT) -> str | None:
    """As `thumbnail_url`; None for an image that has been damaged or deleted since it was looked at."""
    try:
        return thumbnail_url(source, longest, decoding)
    except BadImage:
        return None


def data_url(pixels: np.ndarray, quality: int = 80) -> str:
    """Pixels of shape (height, width, 1 or 3), uint8, as a picture in a URL."""
    return f"data:image/webp;base64,{base64.b64encode(_encoded(pixels, quality)).decode()}"


def sprite_sheets(
    sources: Sequence[ImageSource],
    most_bytes: int,
    decoding: Decoding = DEFAULT,
    progress: Callable[[int, int], None] | None = None,
) -> SpriteSheets:
    """Thumbnails of all images, as large as they can be for all sheets to take about `most_bytes` at most.

    Parameters
    ----------
    sources : sequence of ImageSource
        The tile of an image that cannot be read is empty.
    most_bytes : int
        Of the pictures as they stand in a page. The size of the tiles is chosen by a sample of the images.
    progress : callable, optional
        It is called with the number of images that have been read, and that of all.
    """
    with ThreadPoolExecutor(len(cores())) as pool:
        read = partial(_tile, decoding=decoding)
        side, quality = _size_that_fits(pool, read, sources, most_bytes)
        urls = []
        for start in range(0, len(sources), SHEET):
            chosen = sources[start : start + SHEET]
            urls.append(data_url(_sheet(list(pool.map(partial(read, side=side), chosen)), side), quality))
            if progress:
                progress(start + len(chosen), len(sources))
    return SpriteSheets(tuple(urls), side)


def _size_that_fits(
    pool: ThreadPoolExecutor, read: Callable[..., np.ndarray], sources: Sequence[ImageSource], most_bytes: int
) -> tuple[int, int]:
    """The sides of a tile and the quality by which all sheets take about `most_bytes`."""
    sample = [sources[position] for position in np.unique(np.linspace(0, len(sources) - 1, SAMPLE).astype(int))]
    largest = list(pool.map(partial(read, side=SIDES[0]), sample))
    share = most_bytes * 3 / 4 * 0.95 * len(sample) / max(1, len(sources))  # base64 takes a third more
    for quality in (QUALITY, QUALITY // 2, QUALITY // 4, 1):
        for side in SIDES:
            tiles = [np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.BOX)) for tile in largest]
            if len(_encoded(_sheet(tiles, side), quality)) <= share:
                return side, quality
    return SIDES[-1], 1


def _tile(source: ImageSource, side: int, decoding: Decoding) -> np.ndarray:
    """An image in the middle of a square, (side, side, 3); small ones are enlarged so that their pixels show."""
    square = np.full((side, side, 3), GROUND, np.uint8)
    try:
        pixels = thumbnail(source, side, decoding)
    except BadImage:
        return square
    factor = max(1, side // max(pixels.shape[:2]))
    pixels = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width, _ = pixels.shape
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def _sheet(tiles: Sequence[np.ndarray], side: int) -> np.ndarray:
    rows = -(-len(tiles) // TILES_IN_A_ROW)
    sheet = np.full((rows, TILES_IN_A_ROW, side, side, 3), GROUND, np.uint8)
    for number, tile in enumerate(tiles):
        sheet[divmod(number, TILES_IN_A_ROW)] = tile
    return sheet.transpose(0, 2, 1, 3, 4).reshape(rows * side, TILES_IN_A_ROW * side, 3)


def _encoded(pixels: np.ndarray, quality: int) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.convert("RGB").save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
