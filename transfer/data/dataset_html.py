"""A data set as HTML for a notebook: its classes, their counts and a few small pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage, printable
from transfer.data.images import ImageSource, thumbnail

MOST_CLASSES = 20  # rows of the table; of more classes, the most frequent
MOST_PICTURES = 8
LONGEST_SIDE = 96  # pixels of a picture
LONGEST_TEXT = 60  # characters of a name that is shown


def dataset_html(
    name: str,
    ids: Sequence[str],
    sources: Sequence[ImageSource],
    labels: np.ndarray | None,
    counts: Mapping[str, int] | None,
) -> str:
    """HTML that shows a data set, of a size that does not grow with the number of images.

    Every text from the data set is escaped. An image that cannot be read is shown as the reason why.

    Parameters
    ----------
    counts : mapping of str to int, or None
        The number of images of each class.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> digits = load("digits")
    >>> page = dataset_html(digits.name, digits.ids, digits.sources, digits.labels, digits.class_counts)
    >>> page.count("<img")
    8
    """
    parts = [f"<p><b>{_text(name)}</b>: {len(ids):,} image{'s' * (len(ids) != 1)}</p>"]
    if counts is not None:
        parts.append(_class_table(counts))
    figures = "".join(_figure(ids[position], sources[position]) for position in _examples(len(ids), labels))
    parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>')
    return f'<div class="layertap-dataset">{"".join(parts)}</div>'


def _class_table(counts: Mapping[str, int]) -> str:
    shown = sorted(counts.items(), key=lambda item: -item[1])[:MOST_CLASSES] if len(counts) > MOST_CLASSES else None
    rows = "".join(f"<tr><td>{_text(label)}</td><td>{count:,}</td></tr>" for label, count in shown or counts.items())
    table = f"<table><thead><tr><th>class</th><th>images</th></tr></thead><tbody>{rows}</tbody></table>"
    return table + (f"<p>and {len(counts) - len(shown):,} more classes</p>" if shown else "")


def _examples(count: int, labels: np.ndarray | None) -> list[int]:
    """Positions of the images to be shown: the first one of each class, or some that are evenly spread."""
    if labels is not None and len(labels):
        first = np.sort(np.unique(labels, return_index=True)[1])
        if len(first) >= MOST_PICTURES:
            return first[np.linspace(0, len(first) - 1, MOST_PICTURES).round().astype(int)].tolist()
    return np.unique(np.linspace(0, count - 1, min(count, MOST_PICTURES)).round().astype(int)).tolist()


def _figure(name: str, source: ImageSource) -> str:
    style = f"margin:0;width:{LONGEST_SIDE}px;font-size:11px;overflow-wrap:anywhere"
    try:
        content = f'<img alt="" src="{_data_uri(source)}">'
    except BadImage as error:
        content = f"<em>cannot be read: {_text(error.reason)}</em>"
    return f'<figure style="{style}">{content}<figcaption>{_text(name)}</figcaption></figure>'


def _data_uri(source: ImageSource) -> str:
    """A small picture of an image, as the address of an ``img`` element."""
    pixels = thumbnail(source, LONGEST_SIDE)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(content: str) -> str:
    """A text as HTML that shows it and is nothing else, cut where it is long."""
    cut = content if len(content) <= LONGEST_TEXT else f"{content[: LONGEST_TEXT - 1]}…"
    return html.escape(printable(cut))
