"""From numbers of any range to the 256 levels of a pixel: for images of more than 8 bits, and for arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.spec import PERCENTILES
from transfer.data.images.options import Decoding

CLIPPED = (1.0, 99.0)  # the percentiles that become black and white
FEW_LEVELS = 32  # an image whose values fill an eighth of their range, or less, has no more levels than this
_VALUES_AT_ONCE = 2**22  # that are converted at a time
_LEVEL_OF_16_BITS = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)


def to_eight_bit(
    values: np.ndarray,
    bits: int,
    decoding: Decoding,
    name: str,
    *,
    inverted: bool = False,
    no_data: float | None = None,
) -> np.ndarray:
    """The stored values of an image as levels from 0 to 255.

    Parameters
    ----------
    values : ndarray of integers or floats
    bits : int
        The bits of the range of integers: 12 where 4095 is white.
    decoding : Decoding
        Its window names the values of black and white.
    name : str
        The name of the image in messages.
    inverted : bool
        Whether the smallest value is white.
    no_data : float, optional
        The value that marks missing data; percentiles leave it out.

    Returns
    -------
    ndarray of the same shape, uint8

    Raises
    ------
    BadImage
        When nothing says which values are black and white.
    """
    limits = decoding.limits
    if decoding.window == PERCENTILES:
        limits = _percentiles(values, no_data)
    if limits is not None:
        return stretch(values, *limits, inverted=inverted)
    if values.dtype.kind == "f":
        raise _refusal(name, "holds floating-point values of no fixed range")
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise _refusal(name, f"holds integers outside 0 to 65535 (from {values.min()} to {values.max()})")
    return stretch(values, 0, 2 ** min(bits, 16) - 1, inverted=inverted)


def stretch(
    values: np.ndarray,
    low: float,
    high: float,
    *,
    inverted: bool = False,
    half_to_even: bool = False,
    compute_dtype: type[np.floating] = np.float64,
) -> np.ndarray:
    """Levels of values, linear between `low`, which is black, and `high`, which is white.

    Parameters
    ----------
    values : ndarray
        Values beyond the limits become black or white; NaN becomes black.
    low, high : float
        All values are black where they are equal.
    inverted : bool
        Whether `low` is white and `high` black.
    half_to_even : bool
        Whether a value in the middle between two levels becomes the even one, not the higher one. Images in files are
        rounded up and arrays to even: features that are stored already depend on it.
    compute_dtype : dtype
        The precision of the computation.

    Returns
    -------
    ndarray of the same shape, uint8

    Examples
    --------
    >>> stretch(np.array([-1.0, 0.0, 0.25, 1.0, 2.0]), 0, 1).tolist()
    [0, 0, 64, 255, 255]
    """
    levels = np.zeros(values.shape, np.uint8)
    for rows in row_slices(values):
        part, result = values[rows], levels[rows]
        if values.dtype == np.uint16 and (low, high) == (0, 65535):
            result[...] = _LEVEL_OF_16_BITS[part]
        elif high > low:
            scaled = part.astype(compute_dtype)  # a copy, which the steps below change in place
            scaled -= low
            scaled *= 255 / (high - low)
            np.nan_to_num(np.clip(scaled, 0, 255, out=scaled), copy=False, nan=0.0)
            if half_to_even:
                np.rint(scaled, out=scaled)
            else:
                scaled += 0.5
                np.floor(scaled, out=scaled)
            result[...] = scaled
        if inverted:
            np.subtract(255, result, out=result)
    return levels


def row_slices(values: np.ndarray) -> Iterator[slice]:
    """Slices along the first axis, each of about four million values, so that temporary copies stay small."""
    step = max(1, _VALUES_AT_ONCE // max(1, math.prod(values.shape[1:])))
    return (slice(start, start + step) for start in range(0, len(values), step))


def remark_on_range(largest: int, bits: int, decoding: Decoding) -> str | None:
    """A remark on integers that fill a small part of their range, such as 12 bits stored in 16; None on others.

    Parameters
    ----------
    largest : int
        The largest value of the image.
    bits : int
        The bits of the range of integers.
    decoding : Decoding
    """
    if decoding.window is not None or bits < 16:
        return None
    levels = (largest * 255 + 32767) // 65535 + 1
    if levels > FEW_LEVELS or largest < 1:
        return None
    used = largest.bit_length()
    return (
        f"its 16-bit values become no more than {levels} of 256 gray levels; say which value is white "
        f"by a window of {used} bits (`window='0,{2**used - 1}'`)"
    )


def _percentiles(values: np.ndarray, no_data: float | None) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if no_data is not None:
        # The value as the file stores it: a float32 differs from the number that its text says.
        stored = np.float64(no_data).astype(finite.dtype) if finite.dtype.kind == "f" else no_data
        finite = finite[finite != stored]
    if not finite.size:
        return 0.0, 0.0
    low, high = np.percentile(finite, CLIPPED)
    return float(low), float(high)


def _refusal(name: str, problem: str) -> BadImage:
    reason = (
        f"{problem}; say what is black and white by a window (`window='LOW,HIGH'` or percentiles), or save it as 8- or "
        "16-bit gray"
    )
    return BadImage(f"{name} {reason}.", reason)
