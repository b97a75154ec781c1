"""What every picture owes: it shows something, and nothing is cut off at its edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

AWKWARD = [
    "$_$",
    r"$\frac$",
    "a_b^c",
    "100%",
    r"\alpha",
    "{",
    "$",
    "",
    "Épinoche à trois épines",
    "_hidden",
    "half \ud800",
    "a\nb\0",
    "城",
    "W" * 90,
]


def drawn(file: Path) -> np.ndarray:
    """The pixels of a PNG file, which must be of some size, show something, and have a white edge."""
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert image.convert("RGB").getcolors(20) is None  # more than 20 colours
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 100
    assert 300 < pixels.shape[1] <= 1050
    assert file.stat().st_size > 3000
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    return pixels


@contextmanager
def figures() -> Iterator[list[Figure]]:
    """The figures that are written in this block."""
    seen: list[Figure] = []
    write: Callable[..., Any] = FigureCanvasAgg.print_png

    def keep(canvas: FigureCanvasAgg, *args: Any, **kwargs: Any) -> Any:
        seen.append(canvas.figure)
        return write(canvas, *args, **kwargs)

    with patch.object(FigureCanvasAgg, "print_png", keep):
        yield seen
