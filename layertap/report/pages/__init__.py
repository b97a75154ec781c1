"""Pages of HTML: one file each, which needs nothing beside it, and no network. What people see is in `templates/`.

How another page is made:

1. Write ``templates/NAME.html`` that begins with ``{% extends "base.html" %}`` and fills ``{% block content %}``;
   macros for tables and thumbnails are in ``parts.html``. Every value is escaped: a text from elsewhere stays a text.
2. Collect its values in plain Python, and call ``write_page(file, "NAME.html", title=..., rows=...)``.
3. A page that does something has scripts, ``templates/NAME.js``, without a build step: ``scripts=["NAME.js"]``. They
   read ``data={"NAME": ...}`` by ``pageData("NAME")``. The page says everything in its tables without them, too.
4. Its own style is ``templates/NAME.css``: ``styles=["NAME.css"]``; the colours are variables of ``style.css``.
5. Images come from `thumbnail_url`, many of them from `sprite_sheets`. The same inputs give the same bytes.
"""

from layertap.report.pages.page import fragment, render_page, write_page
from layertap.report.pages.thumbnails import (
    SpriteSheets,
    affordable,
    data_url,
    sprite_sheets,
    thumbnail_if_readable,
    thumbnail_url,
)

__all__ = [
    "SpriteSheets",
    "affordable",
    "data_url",
    "fragment",
    "render_page",
    "sprite_sheets",
    "thumbnail_if_readable",
    "thumbnail_url",
    "write_page",
]
