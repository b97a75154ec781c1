"""Looking at a data set before anything is computed of it: every image is decoded once, and little of each is kept.

Copies among the images are found by `transfer.data.duplicates`. Neither Keras nor Matplotlib is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage
from transfer.data import images
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.duplicates import GRAY_SIDE, HASH_BITS, difference_hash
from transfer.data.images import DEFAULT, Decoding, ImageSource, to_pixels
from transfer.data.remarks import Remarks
from transfer.hardware import cores

SIZE = (224, 224)  # of the input of most nets
CHUNK = 512  # images asked for at a time
QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class ImageRecord:
    """What is kept of an image.

    Attributes
    ----------
    digest : bytes
        Of its content (see `feature_cache.keys`).
    shape : (height, width)
        Once it is upright.
    mode, format : str
        As Pillow calls them; `format` is ``array`` where there is no file.
    bits : int
        Of a channel, as stored.
    bytes : int or None
        Of the file.
    animated : bool
        It has further pages or frames, which are not looked at.
    """

    digest: bytes
    shape: tuple[int, int]
    mode: str
    format: str
    bits: int
    bytes: int | None
    animated: bool


@dataclass(frozen=True)
class Survey:
    """What was seen of a data set.

    Attributes
    ----------
    dataset : Dataset
        Of the images that can be read.
    records : list of ImageRecord
        One for each of them.
    grays : ndarray of shape (n, 32, 32), uint8
    hashes : ndarray of shape (n, 128), bool
        See `transfer.data.duplicates.difference_hash`.
    unreadable : list of Unreadable
        The others.
    classes : tuple of str or None
        All names of classes, of those with no image that can be read too; None without labels.
    size : (height, width)
        Of a net's input.
    histogram : ndarray of shape (3, 256), int64
        How often each value occurs in red, green and blue, over all pixels that a net of this size is given.
    decoding : Decoding
    remarks : list of str
        What decoding has guessed or left out, a sentence each.
    """

    dataset: Dataset
    records: list[ImageRecord]
    grays: np.ndarray
    hashes: np.ndarray
    unreadable: list[Unreadable]
    classes: tuple[str, ...] | None
    size: tuple[int, int]
    histogram: np.ndarray
    decoding: Decoding = DEFAULT
    remarks: list[str] = field(default_factory=list)


def survey(
    dataset: Dataset,
    size: tuple[int, int] = SIZE,
    *,
    decoding: Decoding = DEFAULT,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Decode every image once, in threads. Less than 2 kB are kept of each.

    Parameters
    ----------
    size : (height, width)
        Of the net's input.
    progress : callable, optional
        Called with the number of images done, and of all.
    """
    looks: list[ImageRecord] = []
    readable: list[int] = []
    unreadable: list[Unreadable] = []
    histogram = np.zeros((3, 256), np.int64)
    remarks = Remarks()
    # Allocated at once: small blocks that are kept, among large ones that are not, would leave memory in fragments.
    grays = np.empty((len(dataset), GRAY_SIDE, GRAY_SIDE), np.uint8)
    hashes = np.empty((len(dataset), HASH_BITS), bool)

    def look(position: int) -> tuple[ImageRecord, np.ndarray] | BadImage:
        try:
            found, pixels, guesses = _look(dataset.sources[position], size, decoding)
        except BadImage as error:
            return error
        remarks.add(guesses, dataset.ids[position])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        gray = image.convert("L").resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BILINEAR)
        grays[position], hashes[position] = np.asarray(gray), difference_hash(gray)
        return found, np.array(image.histogram()).reshape(-1, 256)

    with ThreadPoolExecutor(threads or len(cores()), thread_name_prefix="layertap-look") as pool:
        for start in range(0, len(dataset), CHUNK):
            found = pool.map(look, range(start, min(start + CHUNK, len(dataset))))
            for position, result in enumerate(found, start):
                if isinstance(result, BadImage):
                    unreadable.append(Unreadable(dataset.ids[position], result.reason, str(result)))
                else:
                    readable.append(position)
                    looks.append(result[0])
                    histogram += result[1]
                if progress:
                    progress(position + 1, len(dataset))
    kept = np.array(readable, np.int64)
    classes = None if dataset.labels is None else tuple(sorted({*dataset.labels.tolist(), *dataset.empty_classes}))
    return Survey(
        dataset.select(kept),
        looks,
        grays[kept],
        hashes[kept],
        unreadable,
        classes,
        size,
        histogram,
        decoding,
        remarks.lines(),
    )


def _look(source: ImageSource, size: tuple[int, int], decoding: Decoding) -> tuple[ImageRecord, np.ndarray, list[str]]:
    """What is kept of an image, the pixels that a net is given, and what decoding has guessed."""
    digest, picture = source.load()
    stamp, shape = source.stamp(), picture.shape
    all_are_used = decoding.pages != "first" or getattr(source, "page", None) is not None
    animated = not all_are_used and picture.pages > 1
    pixels = to_pixels(picture, size, name=str(source), decoding=decoding)
    look = ImageRecord(digest, shape, picture.mode, picture.format, picture.bits, stamp[1] if stamp else None, animated)
    return look, pixels, picture.remarks


def summary(found: Survey) -> dict[str, Any]:
    """What was seen, in numbers, texts, lists and dicts of these, as JSON takes them.

    Returns
    -------
    dict
        ``images`` and ``readable`` (int); ``classes`` (number of readable images of each, or None without labels);
        ``shapes`` (height, width and count, the most frequent first); ``modes``, ``bits`` and ``formats`` (counts);
        ``animated`` (int); ``bytes`` (quantiles of the sizes of files, and their sum, or None without files); ``size``;
        ``mean`` and ``std`` of red, green and blue, from 0 to 255, over all pixels that a net is given, or None without
        any; ``unreadable`` (ids and reasons); ``remarks`` (what decoding has guessed or left out, a sentence each).
    """
    looks, labels = found.records, found.dataset.labels
    counts = Counter([] if labels is None else labels.tolist())
    shapes = Counter(look.shape for look in looks)
    sizes = [look.bytes for look in looks if look.bytes is not None]
    mean, std = _moments(found.histogram) if looks else (None, None)
    return {
        "images": len(looks) + len(found.unreadable),
        "readable": len(looks),
        "classes": None if found.classes is None else {name: counts[name] for name in found.classes},
        "shapes": [{"height": h, "width": w, "count": count} for (h, w), count in shapes.most_common()],
        "modes": dict(Counter(look.mode for look in looks).most_common()),
        "bits": {str(bits): count for bits, count in Counter(look.bits for look in looks).most_common()},
        "formats": dict(Counter(look.format for look in looks).most_common()),
        "animated": sum(look.animated for look in looks),
        "bytes": {
            **{name: round(float(np.quantile(sizes, share))) for name, share in QUANTILES.items()},
            "sum": sum(sizes),
        }
        if sizes
        else None,
        "size": list(found.size),
        "mean": mean,
        "std": std,
        "unreadable": [{"id": one.id, "reason": one.reason} for one in found.unreadable],
        "remarks": found.remarks,
    }


def _moments(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel."""
    shares, values = histogram / histogram.sum(1, keepdims=True), np.arange(256)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    return mean.tolist(), np.sqrt(variance).tolist()


def pixels_as_net_input(found: Survey, position: int, size: tuple[int, int]) -> np.ndarray:
    """An image, read again, as a net of this input size is given it: (height, width, 1 or 3), uint8."""
    source = found.dataset.sources[position]
    return to_pixels(source.load()[1], size, name=str(source), decoding=found.decoding)


def thumbnail(found: Survey, position: int, longest: int) -> np.ndarray:
    """An image, read again in its proportions, with no side above `longest`: (height, width, 1 or 3), uint8."""
    return images.thumbnail(found.dataset.sources[position], longest, found.decoding)
