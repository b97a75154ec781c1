"""Limits on what decoding one image may cost in pixels, memory and time, all known from its header."""

from __future__ import annotations

from feature_cache.errors import BadImage

# Pillow's own limit: it refuses a larger file as a decompression bomb.
MAX_PIXELS = 178_956_970
# The most that decoding an image of `MAX_PIXELS` may take; a higher limit on pixels raises both in proportion.
MAX_BYTES = 1_000_000_000
MAX_SECONDS = 5.0

# Bytes of a pixel in Pillow's memory, by mode; other modes have 4.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# Bytes for each pixel that a decoder needs in addition, by format: buffers for whole frames, planes of integers.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 8, "HEIF": 8, "JPEG2000": 16, "GIF": 1, "BLP": 8}
_DECODER_BYTES |= {"ICNS": 4, "PSD": 4, "DDS": 4, "QOI": 4}
# Seconds for a million pixels, in formats that Pillow decodes in Python (measured on a 2-core AMD EPYC).
_SECONDS = {"PPM plain": 1.5, "QOI": 1.2, "DDS": 1.4, "BLP": 1.2, "XPM": 0.3}


def bytes_in_memory(mode: str) -> int:
    """Bytes of a decoded pixel of one of Pillow's modes."""
    return _PIXEL_BYTES.get(mode, 4)


def check_cost(
    width: int,
    height: int,
    *,
    name: str,
    max_pixels: int,
    mode: str,
    format: str,
    encoded: int = 0,
    buffers: int = 0,
    transposed: bool = False,
) -> None:
    """Raise BadImage where decoding an image would take too many pixels, too much memory or too long.

    Parameters
    ----------
    width, height : int
        The size that would be decoded: of a JPEG, perhaps an eighth of the stored size.
    name : str
        The name of the image in messages.
    max_pixels : int
        The most pixels that are decoded.
    mode, format : str
        Pillow's names; ``PPM plain`` is the format whose numbers are texts.
    encoded : int
        The bytes of the file.
    buffers : int
        The bytes that the format needs in addition, whatever size is decoded.
    transposed : bool
        Whether a transposed copy is in memory together with the decoded pixels.

    Raises
    ------
    BadImage
    """
    pixels, scale = width * height, max(1.0, max_pixels / MAX_PIXELS)
    memory = pixels * (bytes_in_memory(mode) * (1 + transposed) + _DECODER_BYTES.get(format, 0)) + encoded + buffers
    seconds = pixels / 1e6 * _SECONDS.get(format, 0.0)
    size = f"holds {width} x {height} pixels"
    if pixels > max_pixels:
        reason = f"{size}, {pixels / 1e6:.0f} million, and at most {max_pixels / 1e6:.0f} million are decoded"
    elif memory > MAX_BYTES * scale:
        allowed = MAX_BYTES * scale / 1e9
        reason = f"{size}, which take {memory / 1e9:.1f} GB of memory to decode, where {allowed:.1f} GB are allowed"
    elif seconds > MAX_SECONDS * scale:
        reason = f"{size} in a format that is slow to decode, which would take {seconds:.0f} s"
    else:
        return
    reason += "; make it smaller, save it as JPEG, or raise `max_pixels`"
    raise BadImage(f"{name} {reason}.", reason)
