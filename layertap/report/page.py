"""Pages of HTML that need nothing beside them, no network and no script: what reports have in common."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, printable
from feature_cache.files.atomic import new_file
from layertap.report.style import DOTS_PER_INCH, PIXELS_PER_INCH

MOST_ITEMS = 12  # of a list
STYLE = """
:root { color-scheme: light dark; --ink: #222; --gray: #666; --line: #ddd; --page: #fff; --bar: #d6e6f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e4; --gray: #a0a0a0; --line: #3c3c3c; --page: #181a1b; --bar: #24445f; }
}
@media print { :root { color-scheme: light; --ink: #000; --gray: #444; --line: #ccc; --page: #fff; --bar: #e4eef7; } }
body { max-width: 740px; margin: 2rem auto; padding: 0 1rem; color: var(--ink); background: var(--page);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; break-after: avoid; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; break-after: avoid; }
p, summary { color: var(--gray); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
tr { break-inside: avoid; }
th, td { padding: .22rem .7rem .22rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-weight: normal; overflow-wrap: anywhere; }
thead th { color: var(--gray); vertical-align: bottom; }
tbody th { min-width: 7rem; max-width: 24rem; }
.settings { columns: 19rem 2; column-gap: 2rem; }
.settings section { break-inside: avoid; padding-top: .1px; }
.settings table { width: 100%; }
.settings h3 { margin-top: .6rem; }
.settings th { width: 50%; min-width: 0; color: var(--gray); }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-left: .7rem; }
.bar { background: linear-gradient(to right, var(--bar) calc(var(--share) * 100%), transparent 0) padding-box;
  border-left: .8rem solid transparent; print-color-adjust: exact; min-width: 4.5rem; }
figure { margin: 0; break-inside: avoid; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
.beside { display: flex; flex-wrap: wrap; gap: .6rem 1rem; }
summary { cursor: pointer; margin: .8rem 0; }
@media print { body { margin: 0 auto; } img { max-height: 11cm; width: auto; } }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page below its title.

    Parameters
    ----------
    parts : iterable of str
        HTML, in which every text from elsewhere has gone through `text`.

    Raises
    ------
    StorageFailure
        When the folder does not take it.
    """
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Nothing is fetched and nothing is run, even if a text should find a way to be more than text.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{text(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    with new_file(path, "the report", sync=False) as raw:
        raw.write(page.encode())


def table(columns: Iterable[str], rows: Iterable[str]) -> str:
    """A table with its heads, of rows that are HTML; all columns but the first are numbers."""
    first, *others = (text(column) for column in columns)
    head = f'<th scope="col">{first}</th>' + "".join(f'<th scope="col" class="n">{name}</th>' for name in others)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def facts(values: Mapping[str, Any]) -> str:
    """A table of keys and values, which are numbers, texts, None, or lists and mappings of these."""
    rows = (f'<tr><th scope="row">{text(key)}</th><td>{text(value)}</td></tr>' for key, value in _flat(values))
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def image(heading: str, file: Path) -> str:
    """A picture, embedded.

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
    data = base64.b64encode(content).decode()
    alt = text(heading)
    return f'<figure><img alt="{alt}" width="{wide}" height="{high}" src="data:image/png;base64,{data}"></figure>'


def text(content: object) -> str:
    """`content` as HTML that shows it, in one line, and is nothing else."""
    return html.escape(printable(content))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Keys and values in words; those of a mapping in a mapping with both keys and a dot between."""
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
