"""How much is left of a JPEG that was cut off, and the kind of a JPEG that cannot be read.

The markers are those of ITU-T T.81, Annex B.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

_END, _SCAN, _FRAMES = 0xD9, 0xDA, (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_PROCESSES = {0xC3: "a lossless JPEG", 0xC5: "a hierarchical JPEG", 0xC6: "a hierarchical JPEG", 0xF7: "a JPEG-LS file"}
_PROCESSES |= {0xC7: "a hierarchical JPEG", 0xCB: "a lossless JPEG", 0xCF: "a hierarchical JPEG"}
_ALL_FRAMES = {*_PROCESSES, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # these three mark tables
_COEFFICIENTS = 64  # coefficients of a block


def share_of(encoded: bytes) -> str:
    """How much is left of a JPEG that ends too early, as the end of a sentence that begins with the image."""
    frame, scans = _scans(encoded)
    if frame == _PROGRESSIVE:
        whole = scans[:-1]  # the file ends within the last scan
        exactness: dict[tuple[int, int], float] = {}
        for scan in whole:
            for component in scan.components:
                for coefficient in range(scan.first, scan.last + 1):
                    exactness[component, coefficient] = 0.5 if scan.low_bits_missing else 1.0
        components = 1 + max((component for scan in scans for component in scan.components), default=0)
        share = sum(exactness.values()) / (components * _COEFFICIENTS)
        passes = f"{len(whole)} of its passes {'is' if len(whole) == 1 else 'are'} whole"
        return f"is cut off: {passes}, with about {share:.0%} of its detail"
    rows = _rows(encoded)
    return f"is cut off: {'nearly all' if rows > 0.99 else f'about {rows:.0%}'} of its rows are there"


def other_process(encoded: bytes) -> str | None:
    """The kind of a JPEG that decoders of photographs do not read, by its frame; None for all other files."""
    place = 2
    while encoded[:2] == b"\xff\xd8" and place < len(encoded) - 4 and encoded[place] == 0xFF:
        marker, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4])
        if marker in _ALL_FRAMES:
            bits = encoded[place + 4]
            return _PROCESSES.get(marker) or (f"a JPEG of {bits} bits a channel" if bits != 8 else None)
        place += 2 + max(length, 2)
    return None


class _Scan(NamedTuple):
    """One pass of a progressive JPEG: coefficients `first` to `last` of some components, perhaps without low bits."""

    components: list[int]
    first: int
    last: int
    low_bits_missing: bool


def _scans(encoded: bytes) -> tuple[int, list[_Scan]]:
    """The kind of the frame, and all scans that have begun."""
    place, frame = 2, 0
    order: dict[int, int] = {}
    scans: list[_Scan] = []
    while 0 <= place < len(encoded) - 4:
        if encoded[place] != 0xFF or encoded[place + 1] in (0, 0xFF) or 0xD0 <= encoded[place + 1] <= 0xD8:
            place = encoded.find(b"\xff", place + 1)  # this is the data of a scan
            continue
        marker, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4])
        body = encoded[place + 4 : place + 2 + length]
        if marker in _FRAMES and len(body) >= 6:
            frame = marker
            order = {body[6 + 3 * number]: number for number in range(body[5]) if 6 + 3 * number < len(body)}
        elif marker == _SCAN and body and len(body) >= 2 * body[0] + 3:
            names = [order.get(body[1 + 2 * number], 0) for number in range(body[0])]
            scans.append(_Scan(names, body[-3], min(body[-2], _COEFFICIENTS - 1), bool(body[-1] & 15)))
        place += 2 + max(length, 2)
    return frame, scans


def _rows(encoded: bytes) -> float:
    """The share of rows that are left: a decoder fills the missing ones with an even area at the bottom."""
    image = Image.open(io.BytesIO(encoded + bytes((0xFF, _END))), formats=["JPEG"])
    image.draft(None, (1, 1))
    pixels = np.asarray(image.convert("RGB")).astype(int)
    even = (np.abs(pixels - pixels[-1, -1]).max(axis=(1, 2)) <= 2)[::-1]
    return 1 - (int(np.argmin(even)) if not even.all() else len(even)) / len(even)
