"""The report is one file that needs nothing else, and texts in it are nothing but texts."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import AWKWARD
from PIL import Image

from feature_cache.errors import BadData, StorageFailure
from heads.evaluation.metrics import per_class
from layertap.report.run_report import write_report

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></table><b>",
    "&lt;i&gt; & 'quoted'",
    "<!-- ",
    *AWKWARD,
]
SCORES = {
    "train": {
        "accuracy": {"mean": 0.98765, "std": 0.0123},
        "nll": {"mean": 0.1, "std": 0.0},
        "n": {"mean": 1437.6, "std": 0.49},
    },
    "valid": {
        "accuracy": {"mean": 0.9, "std": 0.02},
        "roc_auc": {"mean": None, "std": None},
        "n": {"mean": 359.4, "std": 0.4},
    },
    "test": {"accuracy": 0.91, "roc_auc": None, "n": 300, "fit_seconds": 1.23456, "of_mine": 0.123456},
}
MADE = {
    "Features": {"net": "vgg16", "size": [224, 224], "transform": None, "augment": {"flip": True}},
    "Head": {"name": "logistic"},
}


class Page(HTMLParser):
    """Elements with their attributes, the text outside the style sheet, and the rows of tables."""

    VOID = ("meta", "img")

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text, self.style = "", ""
        self.rows: list[list[str]] = []
        self.source = file.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
            return
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def png(file: Path, size: tuple[int, int] = (300, 150)) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(file)
    return file


def written(folder: Path, **changes: Any) -> Page:
    return Page(write_report(folder, **{"title": "Run", "scores": SCORES, "settings": MADE, **changes}))


def test_scores_are_shown_part_by_part(tmp_path: Path):
    page = written(tmp_path)
    assert page.rows[:7] == [
        ["", "train", "valid", "test"],
        ["accuracy", "0.9877 ± 0.0123", "0.9000 ± 0.0200", "0.9100"],
        ["log-loss", "0.1000", "–", "–"],
        ["ROC AUC, macro", "–", "–", "–"],
        ["images", "1,438", "359", "300"],
        ["fit (s)", "–", "–", "1.23"],
        ["of mine", "–", "–", "0.1235"],
    ]
    assert "Mean ± standard deviation over the splits." in page.text


def test_scores_without_splits_have_no_deviation(tmp_path: Path):
    page = written(tmp_path, scores={"test": {"rmse": 12.34567, "r2": None}})
    assert page.rows[1:3] == [["R²", "–"], ["RMSE", "12.35"]]
    assert "±" not in page.text


def test_how_it_was_made_is_shown(tmp_path: Path):
    made = {
        **MADE,
        "Data": {"classes": [f"c{i}" for i in range(40)], "none": []},
        "Cost": {"seconds": 12.3456789},
        "Empty": {},
    }
    page = written(tmp_path, settings=made)
    for row in (
        ["net", "vgg16"],
        ["size", "224, 224"],
        ["transform", "–"],
        ["augment.flip", "yes"],
        ["classes", ", ".join(f"c{i}" for i in range(12)) + ", … (40 in all)"],
        ["none", "–"],
        ["seconds", "12.3457"],
    ):
        assert row in page.rows
    assert "Empty" not in page.text


def test_classes_are_shown(tmp_path: Path):
    classes = np.array(["ant", "bee", "cicada"])
    page = written(tmp_path, per_class=per_class(classes, classes[[0, 0, 1]], classes[[0, 1, 1]]))
    assert page.rows[-4:] == [
        ["class", "precision", "recall", "F1", "images"],
        ["ant", "1.000", "0.500", "0.667", "2"],
        ["bee", "0.500", "1.000", "0.667", "1"],
        ["cicada", "–", "–", "–", "0"],
    ]


def test_of_many_classes_the_worst_come_first_and_all_are_folded_away(tmp_path: Path):
    many = [
        {"class": f"c{i:04d}", "precision": 0.5, "recall": 0.5, "f1": i / 1000, "support": 3}
        for i in range(999, -1, -1)
    ]
    many[0]["f1"] = None
    page = written(tmp_path, per_class=many)
    names = [row[0] for row in page.rows if row[0].startswith("c0") or row[0].startswith("c9")]
    assert names[:15] == [f"c{i:04d}" for i in range(15)]
    assert len(names) == 15 + 1000
    assert len(page.all("details")) == 1
    assert len(page.source) < 400_000


def test_pictures_are_inside_in_their_order_and_shown_in_their_size(tmp_path: Path):
    files = {"Confusions": png(tmp_path / "a.png"), "Map <of> features": png(tmp_path / "b.png", (1050, 600))}
    page = written(tmp_path, pictures=files)
    images = page.all("img")
    assert [(image["alt"], image["width"], image["height"]) for image in images] == [
        ("Confusions", "200", "100"),
        ("Map <of> features", "700", "400"),
    ]
    for image, file in zip(images, files.values(), strict=True):
        assert image["src"]
        kind, content = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == file.read_bytes()


def test_report_needs_nothing_beside_it_and_runs_nothing(tmp_path: Path):
    page = written(tmp_path, pictures={"Picture": png(tmp_path / "a.png")}, notes=["A note."])
    assert {tag for tag, _ in page.elements}.isdisjoint(("script", "link", "iframe", "object", "base", "form", "a"))
    assert not re.search(
        r"https?:|//|url\(|@import", re.sub(r"base64,[^\"]*", "", page.source).replace("<!DOCTYPE html>", "")
    )
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in page.style
    assert "@media print" in page.style
    assert str(tmp_path) not in page.source


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_texts_are_nothing_but_texts(tmp_path: Path, text: str):
    of_class = {"class": text, "precision": 0.5, "recall": None, "f1": 0.5, "support": 1}
    page = written(
        tmp_path,
        title=text,
        scores={text: {text: 0.5}},
        settings={text: {text: text, "list": [text, {text: [text]}], "deep": {text: text}}},
        per_class=[of_class],
        pictures={text: png(tmp_path / "a.png")},
        notes=[text],
    )
    plain = written(
        tmp_path,
        title="t",
        scores={"t": {"t": 0.5}},
        settings={"t": {"t": "t", "list": ["t", {"t": ["t"]}], "deep": {"t": "t"}}},
        per_class=[{**of_class, "class": "t"}],
        pictures={"t": tmp_path / "a.png"},
        notes=["t"],
    )
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in page.elements] == [set(attributes) for _, attributes in plain.elements]
    if text.isprintable():
        assert page.text.count(text) >= 9
        assert page.all("img")[0]["alt"] == text


def test_report_is_the_same_for_the_same_run(tmp_path: Path):
    assert written(tmp_path).source == written(tmp_path).source
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_picture_of_another_kind_is_refused_and_nothing_is_written(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"\xff\xd8\xff" + bytes(40))
    with pytest.raises(BadData) as caught:
        written(tmp_path, pictures={"Picture": tmp_path / "a.png"})
    assert str(caught.value) == f"{tmp_path / 'a.png'} is not a PNG file; give pictures as PNG."
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_folder_that_does_not_take_the_report_is_a_storage_failure(tmp_path: Path):
    with pytest.raises(StorageFailure, match="cannot write the report to .*none: No such file or directory"):
        written(tmp_path / "none")


def test_mean_and_deviation_are_not_spoken_of_where_there_is_one_split(tmp_path: Path):
    page = written(tmp_path, scores={"valid": {"accuracy": {"mean": 0.75, "std": 0.0}}})
    assert "0.7500" in page.text
    assert "over the splits" not in page.text
