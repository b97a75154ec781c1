"""Names in annotation files, of files and of classes: which values can be one, and how others are shown."""

from __future__ import annotations

from typing import Any

from feature_cache.errors import printable

LONGEST = 4096  # characters


def is_name(value: Any) -> bool:
    """Whether a value is a text that can be a path or the name of a class.

    Examples
    --------
    >>> is_name("train/cat.jpg"), is_name(7), is_name(" ")
    (True, False, False)
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value or len(value) > LONGEST:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def shown(value: Any) -> str:
    """A value in a message: the beginning of a text or a number, and the type of anything else.

    Examples
    --------
    >>> shown("../cat.jpg"), shown(False), shown([[[]]])
    ("'../cat.jpg'", 'False', 'a list')
    """
    if isinstance(value, str):
        return printable(repr(value[:80]))
    # The text of a list in YAML may be far longer than the file, which can name each of its parts many times.
    return str(value) if value is None or isinstance(value, bool | float) else f"a {type(value).__name__}"
