"""Sizes and durations in the units that people read."""

from __future__ import annotations


def size_text(count: float) -> str:
    """A number of bytes in decimal units, as disks are sold.

    Examples
    --------
    >>> size_text(16_400)
    '16.4 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def parsed_size(text: str) -> float:
    """A size in decimal units as a number of bytes.

    Raises
    ------
    ValueError
        When it is none.

    Examples
    --------
    >>> parsed_size("20GB"), parsed_size("500 mb")
    (20000000000.0, 500000000.0)
    """
    units = {"": 1.0, "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
    number = text.upper().rstrip("KMGTB ")
    unit = text.upper()[len(number) :].strip()
    if unit not in units or not 0 <= float(number) * units[unit] < float("inf"):
        raise ValueError(f"{text!r} is not a size")
    return float(number) * units[unit]


def time_text(seconds: float) -> str:
    """A duration in two significant units.

    Examples
    --------
    >>> time_text(0.25), time_text(95), time_text(3720)
    ('250 ms', '1 min 35 s', '1 h 02 min')
    """
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {seconds:02d} s"
