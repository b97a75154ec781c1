"""From a template and its values to a page, or to a part of one for a notebook."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import printable
from feature_cache.files.atomic import new_file

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = "layertap.report.pages"
# Nothing is fetched, and nothing is run but the page's own script, even if a text should be more than text.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
DATA_SCRIPT = "data.js"


def write_page(file: Path, template: str, **content: Any) -> None:
    """Write a page, which appears whole or not at all; for the parameters see `render_page`.

    Raises
    ------
    StorageFailure
        When the folder does not take it.
    """
    page = render_page(template, **content)
    with new_file(file, "the report", sync=False) as raw:
        raw.write(page.encode("utf-8", "backslashreplace"))


def render_page(
    template: str,
    *,
    title: str,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    **content: Any,
) -> str:
    """A page of HTML.

    Parameters
    ----------
    template : str
        A file of `templates/` that extends ``base.html``.
    title : str
        The heading of the page, and its name in the browser.
    scripts, styles : sequence of str
        Files of `templates/`, which become parts of the page in this order.
    data : mapping of str to object, optional
        What the scripts read by ``pageData(NAME)``: whatever JSON can hold.
    content
        The values of the template. They are escaped, and characters that do not print are shown as escape sequences.
    """
    script = "".join(_file(name) for name in (DATA_SCRIPT, *scripts)) if scripts else ""
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            policy=f"{POLICY}; script-src '{_hash(script)}'" if script else POLICY,
            style="".join(_file(name) for name in ("style.css", *styles)),
            script=script,
            data={name: _json(value) for name, value in (data or {}).items()},
            **content,
        )
    )


def fragment(template: str, **content: Any) -> str:
    """Part of a page, for a notebook: a template that does not extend ``base.html``, with its values escaped."""
    return _environment().get_template(template).render(**content)


def packed(numbers: np.ndarray) -> str:
    """Numbers for a script, in a fraction of the room of JSON: the little-endian bytes of an array as base64."""
    return base64.b64encode(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()).decode()


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _json(value: Any) -> str:
    """JSON in which nothing ends the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _file(name: str) -> str:
    return files(TEMPLATES).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    # Slow to load, and objects that a notebook may never show import this module.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    environment.filters["raw"] = Markup  # of our own files, and of what `_json` made harmless
    return environment
