"""Corrections of labels: what a table of decisions does to a data set, and which tables are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import layertap as lt
from feature_cache.errors import LayertapError
from transfer.data.corrections import DROP, KEEP, RELABEL


def corrected(folder: Path, text: str) -> lt.Dataset:
    (folder / "review.csv").write_text(text)
    return lt.load_dataset("digits", corrections=folder / "review.csv")


def test_images_are_dropped_kept_and_relabelled(tmp_path: Path):
    text = (
        "kind,id,action,label\nlabel,digit-0000,relabel,7\nlabel,digit-0001,drop,\n"
        "outlier,digit-0002,keep,9\nlabel,digit-0003,,8\nlabel,digit-0004,Relabel, a new class \n"
    )
    digits = corrected(tmp_path, text)
    assert digits.ids[:4] == ("digit-0000", "digit-0002", "digit-0003", "digit-0004")
    assert digits.labels is not None
    assert digits.labels[:4].tolist() == ["7", "2", "3", "a new class"]
    assert digits.corrections is not None
    assert digits.corrections.to_json() == {
        "file": str(tmp_path / "review.csv"),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "dropped": 1,
        "relabelled": 2,
    }


def test_columns_may_be_divided_by_semicolons(tmp_path: Path):
    assert len(corrected(tmp_path, "\ufeffid;action;label\ndigit-0000;drop;\n")) == 1796


def test_corrections_of_a_data_set_that_had_some_add_to_them(tmp_path: Path):
    first = corrected(tmp_path, "id,action,label\ndigit-0000,drop,\ndigit-0001,relabel,7\ndigit-0002,keep,\n")
    later = tmp_path / "later.csv"
    later.write_text("id,action,label\ndigit-0000,drop,\ndigit-0001,relabel,8\ndigit-0003,drop,\ndigit-0004,,\n")
    second = lt.load_dataset(first, corrections=later)
    assert second.ids[:2] == ("digit-0001", "digit-0002")
    assert second.labels is not None and second.labels[0] == "8"
    assert second.corrections is not None
    decisions = {"digit-0000": DROP, "digit-0001": RELABEL, "digit-0002": KEEP, "digit-0003": DROP}
    assert {image: each.action for image, each in second.corrections.all_decisions.items()} == decisions
    assert second.corrections.to_json()["earlier"]["file"] == str(tmp_path / "review.csv")
    later.write_text("id,action\ndigit-0001,keep\n")
    third = lt.load_dataset(second, corrections=later)
    assert third.labels is not None and third.labels[0] == "8"
    assert third.corrections is not None and third.corrections.all_decisions["digit-0001"].label == "8"
    later.write_text("id,action\ndigit-0000,keep\n")
    with pytest.raises(LayertapError, match="names the image 'digit-0000', which digits does not have"):
        lt.load_dataset(first, corrections=later)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,action,label\ndigit-0000,drop,\ndigit-0000,keep,\n", "names the image 'digit-0000' twice"),
        ("id,action,label\nno-such,drop,\n", "names the image 'no-such', which digits does not have"),
        ("id,action,label\ndigit-0000,remove,\n", "has, for 'digit-0000', no action 'remove'"),
        ("id,action,label\ndigit-0000,relabel, \n", "relabels 'digit-0000' without a label"),
        ("id,action\ndigit-0000,relabel\n", "relabels 'digit-0000' without a label"),
        ("id,label\ndigit-0000,7\n", "has no column 'action'"),
        ("", "has no column 'id'"),
    ],
)
def test_table_that_cannot_be_applied_is_refused_in_one_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(LayertapError) as caught:
        corrected(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_table_are_refused(tmp_path: Path):
    (tmp_path / "review.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(LayertapError, match=r"cannot be read as corrections"):
        lt.load_dataset("digits", corrections=tmp_path / "review.csv")
    with pytest.raises(LayertapError, match=r"there are no corrections .*nowhere.csv"):
        lt.load_dataset("digits", corrections=tmp_path / "nowhere.csv")
