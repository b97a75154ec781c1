"""The input of a graph of OpenVINO that takes images: which one it is, and how pixels lie in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData
from transfer.nets.openvino_files.axes import lengths

CHANNELS = (3, 1)
PIXEL_TYPES = ("f32", "f16", "bf16", "f64", "u8", "u16", "i16", "i32", "u32", "i64", "u64")


@dataclass(frozen=True)
class ImageInput:
    """An input of four axes, the first of which is that of images.

    Attributes
    ----------
    number : int
        Its position among the inputs.
    name : str
    shape : tuple of int or None
        As the file has it; None for a side of any length.
    """

    number: int
    name: str
    shape: tuple[int | None, ...]

    @property
    def layouts(self) -> list[tuple[int, int]]:
        """Where the channels can be, and how many: pairs of an axis and a length, the likeliest first.

        A length that the file gives decides. Where it gives none, as in nets that take any number of channels,
        channels second are likelier, and so are three.
        """
        known = [(axis, side) for axis in (1, 3) if (side := self.shape[axis]) in CHANNELS and side is not None]
        return known[:1] or [(axis, count) for axis in (1, 3) if self.shape[axis] is None for count in CHANNELS]

    def size(self) -> tuple[int | None, int | None]:
        """The height and width of images, as far as the file fixes them."""
        axis = self.layouts[0][0]
        height, width = (self.shape[one] for one in ((2, 3) if axis == 1 else (1, 2)))
        return height, width

    @property
    def is_one_pixel(self) -> bool:
        """Whether it holds no more than a number for each channel: some exporters make inputs of constants."""
        return math.prod(side or 2 for side in self.shape[1:]) <= max(CHANNELS)

    @property
    def batch(self) -> int:
        """The number of images that the file fixes; 1 where it fixes none."""
        return self.shape[0] or 1


def image_input(net: Any, file: Path) -> ImageInput:
    """The input that takes images; other inputs are for tensors that cannot be read.

    Raises
    ------
    BadData
        When there is none, or several, which the message names; or it takes numbers that are too small for pixels.
    """
    inputs = list(_inputs(net))
    found = [one for one in inputs if len(one.shape) == 4 and one.layouts and not one.is_one_pixel]
    if len(found) == 1:
        [one] = found
        dtype = net.inputs[one.number].get_element_type().get_type_name()
        if dtype not in PIXEL_TYPES:
            raise BadData(
                f"the net {file} takes numbers of type {dtype}, which hold no pixels of 0 to 255; export it with an "
                "input of real numbers, or of uint8."
            )
        return one
    shown = ", ".join(f"{one.name} ({_text(one.shape)})" for one in inputs) or "none"
    if found:
        reason = f"it has {len(found)} inputs that images would fit"
    else:
        reason = f"no input is images x height x width x channels, or has 1 or 3 channels second; they are {shown}"
        if not inputs:
            reason = "it has no inputs"
    more = f": {', '.join(one.name for one in found)}" if found else ""
    raise BadData(
        f"the net {file} does not take one batch of images: {reason}{more}. Export the part that does as a net of its "
        "own."
    )


def _inputs(net: Any) -> Iterator[ImageInput]:
    for number, port in enumerate(net.inputs):
        names = sorted(port.get_names()) or [port.get_node().get_friendly_name()]
        yield ImageInput(number, names[0], tuple(lengths(port.get_partial_shape())))


def _text(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape) or "of any shape"
