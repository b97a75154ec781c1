"""Files that hold several images: each page as an image of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from feature_cache.errors import BadImage
from transfer.datasets import DataSet
from transfer.images import FileSource, ImageSource
from transfer.machine import cores


def every_page(dataset: DataSet) -> DataSet:
    """The data set with an image for each page of a file that holds several.

    Its id is ``FILE#PAGE``, the first page being 0; the label and the columns are those of the file. The header of
    every file is read. Files that cannot be read stay one image each.
    """
    with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-pages") as pool:
        counts = list(pool.map(_pages, dataset.sources))
    if max(counts, default=1) == 1:
        return dataset
    positions = np.repeat(np.arange(len(dataset)), counts)
    pages = np.concatenate([np.arange(count) for count in counts])
    ids, sources = [], []
    for position, page in zip(positions.tolist(), pages.tolist(), strict=True):
        name, source = dataset.ids[position], dataset.sources[position]
        several = counts[position] > 1
        ids.append(f"{name}#{page}" if several else name)
        sources.append(replace(source, page=page) if several and isinstance(source, FileSource) else source)
    several_pages = sum(count > 1 for count in counts)
    note = f"{several_pages} files hold {sum(count for count in counts if count > 1)} pages, each of them an image."
    repeated = dataset.select(positions)
    return replace(repeated, ids=tuple(ids), sources=tuple(sources), notes=(*dataset.notes, note))


def limited(dataset: DataSet, max_pixels: int) -> DataSet:
    """The data set with another limit on the pixels of an image that are decoded."""
    sources = tuple(
        replace(source, max_pixels=max_pixels) if isinstance(source, FileSource) else source
        for source in dataset.sources
    )
    return replace(dataset, sources=sources)


def _pages(source: ImageSource) -> int:
    if not isinstance(source, FileSource) or source.page is not None:
        return 1
    try:
        return source.load()[1].pages
    except BadImage:  # reported when the image is read
        return 1
