"""Options on how the files of a data set are read: pages as images of their own, and the limit on pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from feature_cache.errors import BadImage
from transfer.data.dataset import Dataset
from transfer.data.images import EncodedSource, ImageSource
from transfer.hardware import cores


def expand_pages(dataset: Dataset) -> Dataset:
    """The data set with one image for each page of a file that holds several pages.

    The id of a page is ``FILE#PAGE``, counted from 0; its label and columns are those of the file. Pages that a TIFF
    marks as smaller copies or masks of other pages are left out. The header of every file is read. A file that cannot
    be read stays one image.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from transfer.data.datasets import from_files
    >>> pages = [Image.new("L", (8, 8)) for _ in range(3)]
    >>> pages[0].save("stack.tif", save_all=True, append_images=pages[1:])
    >>> expand_pages(from_files([Path("stack.tif")])).ids
    ('stack.tif#0', 'stack.tif#1', 'stack.tif#2')
    """
    with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-pages") as pool:
        numbers = list(pool.map(_pages, dataset.sources))
    several = [len(pages) for pages in numbers if pages != [0]]
    if not several:
        return dataset
    positions: list[int] = []
    ids: list[str] = []
    sources: list[ImageSource] = []
    for position, (name, source, pages) in enumerate(zip(dataset.ids, dataset.sources, numbers, strict=True)):
        positions += [position] * len(pages)
        if pages != [0] and isinstance(source, EncodedSource):
            ids += [f"{name}#{page}" for page in pages]
            sources += [source.changed(page=page) for page in pages]
        else:
            ids.append(name)
            sources.append(source)
    files = "1 file holds" if len(several) == 1 else f"{len(several)} files hold"
    pages_of = f"{sum(several)} page{'s' * (sum(several) > 1)}"
    note = f"{files} {pages_of}, each of them an image."
    repeated = dataset.select(np.array(positions, np.int64))
    return replace(repeated, ids=tuple(ids), sources=tuple(sources), notes=(*dataset.notes, note))


def with_max_pixels(dataset: Dataset, max_pixels: int) -> Dataset:
    """The data set with another limit on the number of pixels that are decoded of an image.

    Examples
    --------
    >>> from pathlib import Path
    >>> from transfer.data.datasets import from_files
    >>> with_max_pixels(from_files([Path("a.jpg")]), 1_000_000)[0].max_pixels
    1000000
    """
    sources = tuple(
        source.changed(max_pixels=max_pixels) if isinstance(source, EncodedSource) else source
        for source in dataset.sources
    )
    return replace(dataset, sources=sources)


def _pages(source: ImageSource) -> list[int]:
    """The numbers of the pages that are images; 0 alone for a source that is not a file of several pages."""
    if not isinstance(source, EncodedSource) or source.is_part:
        return [0]
    try:
        return source.load()[1].page_numbers
    except BadImage:  # it is reported when the image is read
        return [0]
