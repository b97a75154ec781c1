"""The warnings of decoders that write to the terminal by themselves: what is wrong with an image is in its error."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from functools import cache

from PIL import _imaging

logging.getLogger("PIL").setLevel(logging.CRITICAL)


@cache
def silence_libtiff() -> None:
    """Have the libtiff that Pillow decodes with write no warnings and errors to stderr, in all of this process."""
    with contextlib.suppress(OSError, AttributeError):  # a Pillow that holds no libtiff, or does not show it
        decoders = ctypes.CDLL(_imaging.__file__)  # looks up what it is linked to, too
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(decoders, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
