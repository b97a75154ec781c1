"""From values of more than 8 bits to the 256 levels of a pixel."""

from __future__ import annotations

import math

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.spec import PERCENTILES
from transfer.data.images.options import Decoding

EIGHT_BIT = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)  # of each 16-bit value
CLIPPED = (1.0, 99.0)  # the percentiles that become black and white
_AT_ONCE = 2**22  # values that are scaled at a time
FEW_LEVELS = 32  # no more than this are left of an image whose values fill an eighth of their range, or less


def to_eight_bit(
    values: np.ndarray,
    bits: int,
    decoding: Decoding,
    name: str,
    *,
    inverted: bool = False,
    no_data: float | None = None,
) -> np.ndarray:
    """Values of an image as levels from 0 to 255.

    Parameters
    ----------
    values : ndarray, of integers or floats
    bits : int
        Of the range of integers: 12 where 4095 is white.
    inverted : bool
        Whether the smallest value is white.
    no_data : float, optional
        The value that stands for no value, of which percentiles know nothing.

    Returns
    -------
    ndarray of the same shape, uint8

    Raises
    ------
    BadImage
        Where nothing says which values are black and white.
    """
    limits = decoding.limits
    if decoding.window == PERCENTILES:
        limits = _percentiles(values, no_data)
    if limits is not None:
        return _stretched(values, *limits, inverted=inverted)
    if values.dtype.kind == "f":
        raise _refusal(name, "holds floating-point values of no fixed range")
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise _refusal(name, f"holds integers outside 0 to 65535 (from {values.min()} to {values.max()})")
    return _stretched(values, 0, 2 ** min(bits, 16) - 1, inverted=inverted)


def remark_on(most: int, bits: int, decoding: Decoding) -> str | None:
    """A remark on integers that fill a small part of their range, such as 12 bits stored in 16; None on others.

    Parameters
    ----------
    most : int
        The largest value of the image.
    """
    if decoding.window is not None or bits < 16:
        return None
    levels = (most * 255 + 32767) // 65535 + 1
    if levels > FEW_LEVELS or most < 1:
        return None
    used = most.bit_length()
    return (
        f"its 16-bit values become no more than {levels} of 256 gray levels; say which value is white "
        f"by a window of {used} bits (`window='0,{2**used - 1}'`)"
    )


def _stretched(values: np.ndarray, low: float, high: float, *, inverted: bool) -> np.ndarray:
    """Levels of values of which `low` is black and `high` white; what is beyond them, or no number, is cut off."""
    levels = np.zeros(values.shape, np.uint8)
    step = max(1, _AT_ONCE // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), step):
        part, result = values[start : start + step], levels[start : start + step]
        if values.dtype == np.uint16 and (low, high) == (0, 65535):
            result[...] = EIGHT_BIT[part]
        elif high > low:
            shares = np.clip((part.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
            result[...] = np.floor(np.nan_to_num(shares, copy=False, nan=0.0) + 0.5)
        if inverted:
            np.subtract(255, result, out=result)
    return levels


def _percentiles(values: np.ndarray, no_data: float | None) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if no_data is not None:
        # As the file stores it: a float32 is not its text.
        stored = np.float64(no_data).astype(finite.dtype) if finite.dtype.kind == "f" else no_data
        finite = finite[finite != stored]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, CLIPPED)
    return float(low), float(high)


def _refusal(name: str, what: str) -> BadImage:
    reason = (
        f"{what}; say what is black and white by a window (`window='LOW,HIGH'` or percentiles), or save it as 8- or "
        "16-bit gray"
    )
    return BadImage(f"{name} {reason}.", reason)
