"""Decoders that write warnings to the terminal are silenced: the error of an image says what is wrong with it."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from functools import cache

from PIL import _imaging

logging.getLogger("PIL").setLevel(logging.CRITICAL)


@cache
def silence_libtiff() -> None:
    """Keep the libtiff that Pillow uses from writing warnings and errors to stderr, in the whole process."""
    with contextlib.suppress(OSError, AttributeError):  # this Pillow has no libtiff, or hides it
        decoders = ctypes.CDLL(_imaging.__file__)  # symbols of the libraries that it is linked with are found, too
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(decoders, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
