"""Panels of small images with captions. Images are arrays here, which the caller has read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_cache.errors import printable
from layertap.report.style import WIDTH, File, fitted, picture

MOST_MISTAKES = 24
MISTAKES_IN_A_ROW = 6
LARGEST = 400  # pixels; a thumbnail is smaller
TITLE_HEIGHT = 0.35  # inches
GROUND = 238  # beside an image that is not square


def panel(
    file: File,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    title: str,
    columns: int = 10,
    width: float = WIDTH,
) -> None:
    """Draw images in a grid, each as a thumbnail in a square.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width), (height, width, 1) or (height, width, 3), uint8
    captions : sequence of str
        Lines that are too long for their column are shortened in the middle.
    width : float
        In inches.
    """
    rows = -(-len(images) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    pitch, gap, caption_height = width / columns, 0.1, 0.135 * lines
    side = pitch - gap
    row_height = caption_height + side + gap
    height = TITLE_HEIGHT + max(rows * row_height, 0.4)
    with picture(file, width, height, title, arranged=False) as figure:
        # One plane for all images, in inches: axes for each would take twenty times as long to draw as the images.
        plane = figure.add_axes((0, 0, 1, 1))
        plane.axis("off")
        for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(number, columns)
            left, top = column * pitch + gap / 2, height - TITLE_HEIGHT - row * row_height - caption_height
            plane.imshow(thumbnail(image), extent=(left, left + side, top - side, top))
            text = "\n".join(fitted(line, side, 7) for line in caption.split("\n"))
            centre = left + side / 2
            plane.text(centre, top + 2 / 72, text, fontsize=7, ha="center", va="baseline", linespacing=1.15)
        plane.set(xlim=(0, width), ylim=(0, height), aspect="auto")
        if not rows:
            figure.text(0.02, 0.4, "none", fontsize=8)


def mistakes(file: File, images: Sequence[np.ndarray], captions: Sequence[str], title: str) -> None:
    """Draw the images that were most confidently mistaken, `MOST_MISTAKES` of them at most.

    Parameters
    ----------
    images : sequence of ndarray
        As for `panel`, the worst mistakes first (see `heads.evaluation.metrics.most_wrong`).
    captions : sequence of str
        See `caption`.
    """
    panel(file, images[:MOST_MISTAKES], captions[:MOST_MISTAKES], title, MISTAKES_IN_A_ROW)


def caption(*lines: str) -> str:
    """The caption of an image: its name, the truth, and what was predicted."""
    return "\n".join(printable(line) for line in lines)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """`image` in the middle of a square of shape (side, side, 3), uint8; large ones shrunk by means of blocks."""
    pixels = image.reshape(*image.shape[:2], -1)
    step = -(-max(pixels.shape[:2]) // LARGEST)
    if step > 1:
        height, width = (max(1, length // step) for length in pixels.shape[:2])
        tall, wide = (min(step, length) for length in pixels.shape[:2])
        lines = pixels[: height * tall, : width * wide].reshape(height, tall, -1).sum(1, dtype=np.uint32)
        pixels = lines.reshape(height, width, wide, -1).sum(2, dtype=np.uint32) // (tall * wide)
    height, width, _ = pixels.shape
    side = max(height, width)
    square = np.full((side, side, 3), GROUND, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square
