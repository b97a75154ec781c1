"""What decoding one image may cost: pixels, memory and time, known from its header, before anything is decoded."""

from __future__ import annotations

from feature_cache.errors import BadImage

# Pillow's own limit, beyond which it refuses a file as a decompression bomb.
MAX_PIXELS = 178_956_970
# What decoding an image of at most `MAX_PIXELS` may take; a higher limit on pixels raises both in proportion.
MAX_BYTES = 1_000_000_000
MAX_SECONDS = 5.0

# Bytes of a pixel in Pillow's memory, by mode; others have 4.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# Bytes of a pixel that decoders take besides, by format: buffers for whole frames, planes of integers.
_BESIDES = {"WEBP": 12, "AVIF": 8, "HEIF": 8, "JPEG2000": 16, "GIF": 1, "BLP": 8}
_BESIDES |= {"ICNS": 4, "PSD": 4, "DDS": 4, "QOI": 4}
# Seconds for a million pixels of the formats that Pillow decodes in Python (measured on a 2-core AMD EPYC).
_SECONDS = {"PPM plain": 1.5, "QOI": 1.2, "DDS": 1.4, "BLP": 1.2, "XPM": 0.3}


def bytes_in_memory(mode: str) -> int:
    """Bytes of a pixel of one of Pillow's modes, decoded."""
    return _STORED.get(mode, 4)


def check(
    width: int,
    height: int,
    *,
    name: str,
    max_pixels: int,
    mode: str,
    format: str,
    encoded: int = 0,
    besides: int = 0,
    turned: bool = False,
) -> None:
    """Raise BadImage where decoding would take too many pixels, too much memory or too long.

    Parameters
    ----------
    width, height : int
        What would be decoded: of a JPEG perhaps an eighth of what is stored.
    mode, format : str
        As Pillow calls them; ``PPM plain`` for the format whose numbers are texts.
    encoded, besides : int
        Bytes of the file, and those that the format needs whatever is decoded.
    turned : bool
        Whether a turned copy exists beside the decoded pixels.
    """
    pixels, share = width * height, max_pixels / MAX_PIXELS
    memory = pixels * (bytes_in_memory(mode) * (1 + turned) + _BESIDES.get(format, 0)) + encoded + besides
    seconds = pixels / 1e6 * _SECONDS.get(format, 0.0)
    size = f"holds {width} x {height} pixels"
    if pixels > max_pixels:
        reason = f"{size}, {pixels / 1e6:.0f} million, and at most {max_pixels / 1e6:.0f} million are decoded"
    elif memory > MAX_BYTES * max(1.0, share):
        allowed = MAX_BYTES * max(1.0, share) / 1e9
        reason = f"{size}, which take {memory / 1e9:.1f} GB of memory to decode, where {allowed:.1f} GB are allowed"
    elif seconds > MAX_SECONDS * max(1.0, share):
        reason = f"{size} in a format that is slow to decode, which would take {seconds:.0f} s"
    else:
        return
    reason += "; make it smaller, save it as JPEG, or raise `max_pixels`"
    raise BadImage(f"{name} {reason}.", reason)
