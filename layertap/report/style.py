"""What the pictures of a run share: size, fonts, colours, and text that is drawn as it is.

Matplotlib is imported only when a picture is drawn. Its settings stay the caller's: a picture has its own for as
long as it is drawn.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from feature_cache.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches, of the widest pictures
DOTS_PER_INCH = 150
PIXELS_PER_INCH = 100  # where a picture is shown beside others: 700 pixels for the widest
INK, GRAY, PALE, BLUE = "#222222", "#767676", "#e3e3e3", "#1b6ca8"
# Petroff, "Accessible color sequences for data visualization" (2021): ten that the colour-blind can tell apart.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
MARKERS = ("o", "^", "s", "D", "v", "P")  # one for each round of the colours
# The others supply the characters that the first one lacks, where they are installed.
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Arial Unicode MS", "Noto Sans")
STYLE = {
    "text.parse_math": False,  # a class may be called "$"
    "text.color": INK,
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRAY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
}
Part = Literal["start", "middle"]  # of a text, to be left out
File = Path | BinaryIO  # that a picture is written to


@contextlib.contextmanager
def picture(file: File, width: float, height: float, title: str, *, arranged: bool = True) -> Iterator[Figure]:
    """A figure to fill, of a size in inches, which is written to the PNG `file` when the block ends well.

    Its parts are arranged so that nothing overlaps, unless the caller arranges them.
    """
    import matplotlib  # slow to load
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "font.sans-serif": [name for name in FONTS if name in installed]})
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it
        figure = Figure((width, height), DOTS_PER_INCH, layout="constrained" if arranged else None)
        canvas = FigureCanvasAgg(figure)
        place = {} if arranged else {"y": 1 - 0.06 / height}
        figure.suptitle(fitted(title, width - 0.4, 10, "start"), x=0.02, ha="left", va="top", fontsize=10, **place)
        yield figure
        canvas.print_png(file)  # savefig would draw it twice


def shortened(text: object, most: int, part: Part = "middle") -> str:
    """`text`, printable, with its `part` left out where it has over `most` characters."""
    plain = printable(text)
    if len(plain) <= most:
        return plain
    after = most - 1 if part == "start" else (most - 1) // 2
    return f"{plain[: most - 1 - after]}…{plain[len(plain) - after :]}"


def fitted(text: object, inches: float, points: float, part: Part = "middle") -> str:
    """`text`, printable, with its `part` left out as far as it must be to be no wider than `inches`."""
    from matplotlib.font_manager import findfont, get_font  # slow to load

    font = get_font(findfont(FONTS[0]))
    font.set_size(points, 72)
    most = len(printable(text))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        while most > 3:
            font.set_text(shortened(text, most, part))
            share = 72 * inches / max(font.get_width_height()[0] / 64, 1)
            if share >= 1:
                break
            most = max(3, min(most - 1, round(most * share)))
    return shortened(text, most, part)


def label(text: object, inches: float) -> str:
    """`text` for a legend, which would leave it out if it were empty or began with an underscore."""
    fit = fitted(text, inches, 8)
    return f" {fit}" if fit[:1] in ("", "_") else fit


def arrange(figure: Figure, *, for_good: bool = False) -> None:
    """Arrange the parts of the figure, so that they can be measured; `for_good`, nothing that is added moves them."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    if for_good:
        figure.set_layout_engine("none")


def grid(axes: Axes, axis: Literal["both", "y"] = "both") -> None:
    """Faint lines behind what is drawn, in place of tick marks."""
    axes.grid(axis=axis)
    axes.tick_params(length=0, which="both")
