"""What the images of a data set are like, before any features are computed: shapes, modes, sizes, levels.

Every image is decoded once, and less than 2 kB are kept of it, in which `transfer.data.copies.duplicates` finds copies.
Neither Keras nor Matplotlib is imported.
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
from feature_cache.process.read_ahead import map_ahead
from transfer.data import images
from transfer.data.copies.image_hash import GRAY_SIDE, HASH_BITS, difference_hash
from transfer.data.image_collection import READY, ImageCollection, Unreadable
from transfer.data.images import DEFAULT, Decoding, ImageSource, to_pixels
from transfer.data.remarks import Remarks
from transfer.data.remote.announced import announced
from transfer.hardware import cores

SIZE = (224, 224)  # the input size of most nets
CHUNK = 512  # images after which the threads are waited for
QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "max": 1.0}


@dataclass(frozen=True)
class ImageRecord:
    """The facts that a survey keeps of one image.

    Attributes
    ----------
    digest : bytes
        Digest of the image's content (see `feature_cache.keys`).
    shape : (height, width)
        The shape of the upright image.
    mode, format : str
        Pillow's names; `format` is ``array`` where there is no file.
    bits : int
        Bits of a channel, as stored.
    bytes : int or None
        Size of the file.
    animated : bool
        Whether the file has further pages or frames, which are not decoded.
    """

    digest: bytes
    shape: tuple[int, int]
    mode: str
    format: str
    bits: int
    bytes: int | None
    animated: bool


@dataclass(frozen=True, repr=False)
class DatasetSurvey:
    """The result of `survey`.

    Attributes
    ----------
    dataset : ImageCollection
        The images that can be read.
    records : list of ImageRecord
        One record for each of them.
    grays : ndarray of shape (n, 32, 32), uint8
        A small gray version of each of them.
    hashes : ndarray of shape (n, 128), bool
        The difference hash of each of them (see `transfer.data.copies.image_hash`).
    unreadable : list of Unreadable
        The images that cannot be read.
    classes : tuple of str or None
        The names of all classes, also of those without a readable image; None without labels.
    size : (height, width)
        The input size of the net that the histogram is for.
    histogram : ndarray of shape (3, 256), int64
        How often each level occurs in red, green and blue, over all pixels that a net of this input size is given.
    decoding : Decoding
    remarks : list of str
        What decoding has guessed or left out, a sentence each.
    """

    dataset: ImageCollection
    records: list[ImageRecord]
    grays: np.ndarray
    hashes: np.ndarray
    unreadable: list[Unreadable]
    classes: tuple[str, ...] | None
    size: tuple[int, int]
    histogram: np.ndarray
    decoding: Decoding = DEFAULT
    remarks: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"DatasetSurvey({self.dataset!r}, {len(self.unreadable):,} unreadable)"


def survey(
    dataset: ImageCollection,
    size: tuple[int, int] = SIZE,
    *,
    decoding: Decoding = DEFAULT,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetSurvey:
    """Decode every image once, in threads, and keep less than 2 kB of each.

    Parameters
    ----------
    dataset : ImageCollection
    size : (height, width)
        The input size of a net.
    decoding : Decoding
    threads : int, optional
        By default one for each core.
    progress : callable, optional
        Called with the number of images done, and the number of all images.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> digits = load("digits")
    >>> survey(digits.select(np.arange(20)), (8, 8)).records[0].shape
    (8, 8)
    """
    collector = _Collector(dataset, size, decoding)
    with ThreadPoolExecutor(threads or len(cores()), thread_name_prefix="layertap-survey") as pool:
        for start in range(0, len(dataset), CHUNK):
            ahead = announced(dataset.sources, range(start, min(start + CHUNK, len(dataset))))
            results = map_ahead(collector.decode, ahead, depth=READY * (threads or len(cores())), pool=pool)
            for position, result in enumerate(results, start):
                collector.add(position, result)
                if progress:
                    progress(position + 1, len(dataset))
    return collector.result()


class _Collector:
    """What is kept of the images of a data set: `decode` is called by many threads, `add` and `result` by one."""

    def __init__(self, dataset: ImageCollection, size: tuple[int, int], decoding: Decoding) -> None:
        self._dataset = dataset
        self._size = size
        self._decoding = decoding
        self._records: list[ImageRecord] = []
        self._readable: list[int] = []
        self._unreadable: list[Unreadable] = []
        self._histogram = np.zeros((3, 256), np.int64)
        self._remarks = Remarks()
        # One allocation each: small blocks that are kept, among large ones that are not, would fragment the memory.
        self._grays = np.empty((len(dataset), GRAY_SIDE, GRAY_SIDE), np.uint8)
        self._hashes = np.empty((len(dataset), HASH_BITS), bool)

    def decode(self, position: int) -> tuple[ImageRecord, np.ndarray] | BadImage:
        """The record of an image and the histogram of its levels, or the error that reading it raises."""
        try:
            record, pixels, remarks = _record(self._dataset.sources[position], self._size, self._decoding)
        except BadImage as error:
            return error
        self._remarks.add(remarks, self._dataset.ids[position])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        gray = image.convert("L").resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BILINEAR)
        self._grays[position], self._hashes[position] = np.asarray(gray), difference_hash(gray)
        return record, np.array(image.histogram()).reshape(-1, 256)

    def add(self, position: int, result: tuple[ImageRecord, np.ndarray] | BadImage) -> None:
        if isinstance(result, BadImage):
            self._unreadable.append(Unreadable(self._dataset.ids[position], result.reason, str(result)))
            return
        self._readable.append(position)
        self._records.append(result[0])
        self._histogram += result[1]

    def result(self) -> DatasetSurvey:
        counts, readable = self._dataset.class_counts, np.array(self._readable, np.int64)
        return DatasetSurvey(
            self._dataset.select(readable),
            self._records,
            self._grays[readable],
            self._hashes[readable],
            self._unreadable,
            None if counts is None else tuple(counts),
            self._size,
            self._histogram,
            self._decoding,
            self._remarks.lines(),
        )


def _record(
    source: ImageSource, size: tuple[int, int], decoding: Decoding
) -> tuple[ImageRecord, np.ndarray, list[str]]:
    """The record of an image, the pixels that a net is given, and the remarks that decoding makes."""
    digest, picture = source.load()
    stamp, shape = source.stamp(), picture.shape
    all_pages_are_used = decoding.pages != "first" or getattr(source, "is_part", False)
    animated = not all_pages_are_used and picture.pages > 1
    pixels = to_pixels(picture, size, name=str(source), decoding=decoding)
    if getattr(source, "is_part", False):  # a page or a box, which has no file of its own
        stamp = None
    size_in_bytes = (stamp[1] or None) if stamp else None  # 0 where a table does not say it
    record = ImageRecord(digest, shape, picture.mode, picture.format, picture.bits, size_in_bytes, animated)
    return record, pixels, picture.remarks


def summary(result: DatasetSurvey) -> dict[str, Any]:
    """The survey as numbers, texts, lists and dicts of these, which JSON can hold.

    Returns
    -------
    dict
        ``images`` and ``readable`` (int); ``classes`` (number of readable images of each, or None without labels);
        ``shapes`` (height, width and count, the most frequent first); ``modes``, ``bits`` and ``formats`` (counts);
        ``animated`` (int); ``bytes`` (quantiles of the sizes of files, and their sum, or None without files); ``size``;
        ``mean`` and ``std`` of red, green and blue, from 0 to 255, over all pixels that a net is given, or None without
        any; ``unreadable`` (ids and reasons); ``remarks`` (what decoding has guessed or left out, a sentence each).

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> digits = load("digits")
    >>> summary(survey(digits.select(np.arange(20)), (8, 8)))["shapes"]
    [{'height': 8, 'width': 8, 'count': 20}]
    """
    records, labels = result.records, result.dataset.labels
    counts = Counter([] if labels is None else labels.tolist())
    shapes = Counter(record.shape for record in records)
    mean, std = _moments(result.histogram) if records else (None, None)
    return {
        "images": len(records) + len(result.unreadable),
        "readable": len(records),
        "classes": None if result.classes is None else {name: counts[name] for name in result.classes},
        "shapes": [{"height": h, "width": w, "count": count} for (h, w), count in shapes.most_common()],
        "modes": dict(Counter(record.mode for record in records).most_common()),
        "bits": {str(bits): count for bits, count in Counter(record.bits for record in records).most_common()},
        "formats": dict(Counter(record.format for record in records).most_common()),
        "animated": sum(record.animated for record in records),
        "bytes": _byte_quantiles([record.bytes for record in records if record.bytes is not None]),
        "size": list(result.size),
        "mean": mean,
        "std": std,
        "unreadable": [{"id": image.id, "reason": image.reason} for image in result.unreadable],
        "remarks": result.remarks,
    }


def _byte_quantiles(sizes: list[int]) -> dict[str, int] | None:
    if not sizes:
        return None
    quantiles = {name: round(float(np.quantile(sizes, share))) for name, share in QUANTILES.items()}
    return {**quantiles, "sum": sum(sizes)}


def _moments(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel."""
    shares, values = histogram / histogram.sum(1, keepdims=True), np.arange(256)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    return mean.tolist(), np.sqrt(variance).tolist()


def pixels_as_net_input(result: DatasetSurvey, position: int, size: tuple[int, int]) -> np.ndarray:
    """An image, read again, as a net of this input size is given it: (height, width, 1 or 3), uint8."""
    source = result.dataset.sources[position]
    return to_pixels(source.load()[1], size, name=str(source), decoding=result.decoding)


def thumbnail(result: DatasetSurvey, position: int, longest: int) -> np.ndarray:
    """An image, read again in its proportions, with no side above `longest`: (height, width, 1 or 3), uint8."""
    return images.thumbnail(result.dataset.sources[position], longest, result.decoding)
