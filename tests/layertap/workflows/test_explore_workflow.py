"""`layertap.explore`: findings as an object, with a report on disk where one is asked for."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

import layertap as lt
from feature_cache.errors import InvalidChoice


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, level in (("cat", 50), ("dog", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            Image.linear_gradient("L").point(lambda v, k=number, b=level: (v * (k + 2) + b) % 256).resize(
                (30, 20)
            ).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def test_findings_are_an_object_with_a_short_repr(photos: Path) -> None:
    shutil.copy(photos / "cat" / "0.png", photos / "dog" / "copy.png")
    (photos / "dog" / "broken <i>.png").write_bytes(b"x")
    calls: list[tuple[int, int]] = []
    survey = lt.explore(photos, size=(16, 16), progress=lambda what: nullcontext(lambda *now: calls.append(now)))
    assert repr(survey).startswith(f"Survey({str(photos)!r}, 8 images, 1 unreadable, 2 classes, 1 group of copies")
    assert [image.id for image in survey.data.unreadable] == ["dog/broken <i>.png"]
    assert survey.report["classes"] == {"cat": 3, "dog": 4}
    assert survey.against is survey.folder is None
    assert calls[-1] == (8, 8)
    page = survey._repr_html_()
    assert "broken &lt;i&gt;.png" in page
    assert "<i>" not in page


def test_two_data_sets_are_compared(photos: Path) -> None:
    data = lt.load_dataset(photos)
    survey = lt.explore(data, against=data, progress=False)
    assert survey.report["against"]["leaks"]["images"] == 6
    assert "6 images of" in repr(survey)


def test_out_holds_a_page_and_is_not_replaced_unasked(photos: Path, tmp_path: Path) -> None:
    survey = lt.explore(photos, out=tmp_path / "report")
    assert survey.folder == tmp_path / "report"
    assert (tmp_path / "report" / "report.html").is_file()
    assert json.loads((tmp_path / "report" / "explore.json").read_text())["images"] == 6
    with pytest.raises(InvalidChoice, match="report"):
        lt.explore(photos, out=tmp_path / "report")
    lt.explore(photos, out=tmp_path / "report", overwrite=True)


def test_a_kit_is_compared_with_its_test_set(photos: Path, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(photos, kit / "data" / "imgs")
    (kit / "problem.py").write_text("raise SystemExit('this was run')")
    (kit / "data" / "train.csv").write_text("id,class\ncat/0.png,cat\ndog/0.png,dog\n")
    (kit / "data" / "test.csv").write_text("id,class\ncat/0.png,cat\n")
    assert lt.explore(kit).report["against"]["leaks"]["images"] == 1
