"""From objects to the rows, facts and pictures that templates show."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData
from layertap.report.style import DOTS_PER_INCH, PIXELS_PER_INCH

MOST_ITEMS = 12  # of a list


def fact_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and values in words; those of a mapping in a mapping with both keys and a dot between.

    Parameters
    ----------
    values : mapping of str to object
        Numbers, texts, None, or lists and mappings of these.
    """
    return list(_flat(values))


def picture(heading: str, file: Path) -> dict[str, Any]:
    """A picture as the macro `picture` of ``parts.html`` shows it.

    Raises
    ------
    BadData
        When it is not a PNG file.
    """
    content = file.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or len(content) < 24:
        raise BadData(f"{file} is not a PNG file; give pictures as PNG.")
    wide, high = (
        round(int.from_bytes(content[at : at + 4], "big") * PIXELS_PER_INCH / DOTS_PER_INCH) for at in (16, 20)
    )
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return {"heading": heading, "width": wide, "height": high, "url": url}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.") if value else [(name, "–")]
        elif isinstance(value, (list, tuple)):
            some = ", ".join(_word(item) for item in value[:MOST_ITEMS])
            yield name, f"{some}, … ({len(value):,} in all)" if len(value) > MOST_ITEMS else some or "–"
        else:
            yield name, _word(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "–" if value is None else str(value)


def share_cell(value: float | None) -> str | tuple[str, str]:
    """The cell of a table with a share of 1, and a bar as long as it is; a dash for None.

    Examples
    --------
    >>> share_cell(0.25), share_cell(None)
    (('0.250', '0.250'), '–')
    """
    return "–" if value is None else (f"{value:.3f}", f"{value:.3f}")
