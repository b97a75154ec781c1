"""How objects of the cache are shown: in a line by `repr`, and as a table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from feature_cache.errors import printable


def shape_text(shape: Sequence[int]) -> str:
    """A shape as people write it.

    Examples
    --------
    >>> shape_text((1797, 4, 4, 64))
    '1,797 x 4 x 4 x 64'
    """
    return " x ".join(f"{side:,}" for side in shape) or "none"


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table for a notebook, under a title; texts are escaped.

    Parameters
    ----------
    title : str
    rows : iterable of sequences
        The cells of each row; the first of a row is its heading where the table has none of its own.
    head : sequence of str, optional
        The headings of the columns.

    Examples
    --------
    >>> html_table("sizes", [("<a>", 1)])
    '<div><strong>sizes</strong><table><tr><td>&lt;a&gt;</td><td>1</td></tr></table></div>'
    """
    lines = [f"<tr>{''.join(f'<th>{_cell(cell)}</th>' for cell in head)}</tr>"] if head else []
    lines += [f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<div><strong>{_cell(title)}</strong><table>{''.join(lines)}</table></div>"


def _cell(content: object) -> str:
    return html.escape(printable(str(content)))
