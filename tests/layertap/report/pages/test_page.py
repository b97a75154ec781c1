"""Pages: texts stay texts, only the page's own script runs, and the same inputs give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layertap.report.pages import data_url, render_page, sprite_sheets, thumbnail_url
from layertap.report.pages.page import packed
from transfer.data.images import ArraySource, FileSource

HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028'\""


def pixels_of(url: str) -> np.ndarray:
    content = base64.b64decode(url.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)))


def test_data_is_read_as_it_was_given_and_ends_no_element() -> None:
    page = render_page("base.html", title=HOSTILE, scripts=["data.js"], data={"one": {HOSTILE: [HOSTILE, 1.5, None]}})
    [text] = re.findall(r'<script type="application/json" id="data-one">(.*?)</script>', page)
    assert json.loads(text) == {HOSTILE: [HOSTILE, 1.5, None]}
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page


def test_the_policy_allows_the_script_of_the_page_alone() -> None:
    page = render_page("base.html", title="t", scripts=["data.js"])
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'\"" in page
    assert "script-src" not in render_page("base.html", title="t")


def test_arrays_are_packed_in_little_endian_order() -> None:
    numbers = np.array([1, 258], ">u2")
    assert base64.b64decode(packed(numbers)) == b"\x01\x00\x02\x01"


def test_thumbnails_are_upright_and_in_proportion(tmp_path: Path) -> None:
    image = Image.new("RGB", (200, 100))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held sideways
    image.save(tmp_path / "a.jpg", exif=exif)
    assert pixels_of(thumbnail_url(FileSource(tmp_path / "a.jpg"), 50)).shape[:2] == (50, 25)


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [30_000, 200_000])
def test_sheets_keep_to_their_size_and_order(tmp_path: Path, most_bytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (1500, 16, 16, 3), np.uint8)
    noise[1234] = 255
    sources = [ArraySource(pixels, str(number)) for number, pixels in enumerate(noise)]
    sources[7] = FileSource(tmp_path / "missing.png")  # type: ignore[call-overload]
    sheets = sprite_sheets(sources, most_bytes)
    assert sum(map(len, sheets.urls)) <= most_bytes
    row, column = divmod(1234 % sheets.tiles, sheets.tiles_in_a_row)
    sheet, side = pixels_of(sheets.urls[1234 // sheets.tiles]).astype(float), sheets.side
    assert sheet[row * side + side // 2, column * side + side // 2].min() > 200
    assert sheets == sprite_sheets(sources, most_bytes)


def test_gray_images_are_pictures_too() -> None:
    assert pixels_of(data_url(np.full((4, 6, 1), 200, np.uint8))).shape == (4, 6, 3)
