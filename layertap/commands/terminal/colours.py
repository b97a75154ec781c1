"""A few styles for texts in terminals, and none elsewhere. It imports nothing heavy: every command prints."""

from __future__ import annotations

import os
from typing import IO

# Select Graphic Rendition codes, which all terminals know.
STYLES = {"heading": "1", "command": "36", "error": "1;31", "warning": "33", "note": "2"}


def styled(text: str, style: str, stream: IO[str]) -> str:
    """`text` in a style where `stream` is a terminal that shows colours, else as it is.

    Parameters
    ----------
    style : str
        A key of `STYLES`.
    stream : text stream
        Where the text will be written.

    Examples
    --------
    >>> import io
    >>> styled("Next", "heading", io.StringIO())
    'Next'
    """
    return f"\033[{STYLES[style]}m{text}\033[0m" if text and _shows_colours(stream) else text


def _shows_colours(stream: IO[str]) -> bool:
    """Whether `stream` is a terminal, and nothing asks for plain text (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
