"""Nets that were quantised to eight bits before they were saved: which they are, and how they are computed here."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from transfer.hardware import multiplies_int8
from transfer.nets.openvino_files.checks import state_of
from transfer.nets.openvino_files.reading import read
from transfer.nets.openvino_files.tensors import needed_inputs

MOST_LEVELS = 256  # of eight bits


def computes_int8() -> bool:
    """Whether OpenVINO may multiply quantised tensors in int8 here, and not in float32.

    On x86 processors without VNNI and AMX it adds products of eight bits in sixteen, which overflow: features of
    quantised nets would be off by up to a fifth of a layer's scale. It is no faster than float32 there, either.
    """
    return multiplies_int8() is True


def quantised_note(file: Path) -> str | None:
    """The sentence on a net that is not computed in int8 because of this processor; None for all others."""
    if computes_int8() or not is_quantised(file):
        return None
    return (
        f"{file} is quantised to 8 bits: it is computed in float32, which gives the same features but is no faster. "
        "This processor is not known to have VNNI or AMX instructions, without which sums of int8 overflow and change "
        "features by up to a fifth of their scale; on one that has them the net is computed in int8."
    )


def is_quantised(file: Path) -> bool:
    """Whether tensors that depend on the image are rounded to eight bits in the net of a file.

    Raises
    ------
    LayertapError
        When the file cannot be read.
    """
    return _is_quantised(file, state_of(file))


@lru_cache(maxsize=16)
def _is_quantised(file: Path, state: Any) -> bool:
    net = read(file)
    needed = needed_inputs(net)
    return any(
        operation.get_type_name() == "FakeQuantize"
        and operation.get_attributes()["levels"] <= MOST_LEVELS
        and bool(needed[operation.get_name()])
        for operation in net.get_ops()
    )
