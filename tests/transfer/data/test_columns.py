"""Columns of CSV files: numbers, several labels, groups."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_cache.errors import BadData, InvalidChoice
from transfer.data.columns import decimal_commas, label_sets, numbers, texts
from transfer.data.datasets import Dataset, load, require_labels


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Dataset]:
    """Make a data set of a CSV file with these columns."""

    def make(**columns: list[str]) -> Dataset:
        names = ["id", *columns]
        ids = [f"{number}.png" for number in range(len(next(iter(columns.values()))))]
        lines = [names, *zip(ids, *columns.values(), strict=True)]
        for name in ids:
            (tmp_path / name).touch()
        file = tmp_path / "table.tsv"
        file.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8")
        return load(str(file))

    return make


def test_numbers_of_one_column_and_of_several(table: Callable):
    data = table(age=["1", " 2.5", "-3e2"], size=["0", "1", "2"])
    np.testing.assert_array_equal(numbers(data, ["age"]), [1, 2.5, -300])
    np.testing.assert_array_equal(numbers(data, ["size", "age"]), [[0, 1], [1, 2.5], [2, -300]])


@pytest.mark.parametrize(("cell", "said"), [("old", "'old'"), ("", "empty"), ("nan", "'nan'"), ("inf", "'inf'")])
def test_a_cell_that_is_no_number_is_named_with_its_image(table: Callable, cell: str, said: str):
    with pytest.raises(BadData, match=f"{said}.*'1.png'"):
        numbers(table(age=["1", cell, "x"]), ["age"])


@pytest.mark.parametrize(
    "cells",
    [
        ["sun;sea", "", "new york;sun"],
        ["sun | sea", "none", "sun|new york|sun"],
        ["sun,sea", "-", " new york , sun"],
    ],
)
def test_labels_of_one_column(table: Callable, cells: list[str]):
    member, labels = label_sets(table(tags=cells), ["tags"])
    assert labels == ("new york", "sea", "sun")
    np.testing.assert_array_equal(member, [[0, 1, 1], [0, 0, 0], [1, 0, 1]])
    assert member.dtype == bool


def test_spaces_part_labels_where_nothing_else_does(table: Callable):
    member, labels = label_sets(table(tags=["sun sea", "sea", ""]), ["tags"])
    assert labels == ("sea", "sun")
    np.testing.assert_array_equal(member, [[1, 1], [1, 0], [0, 0]])


def test_a_column_for_each_label(table: Callable):
    member, labels = label_sets(table(sun=["1", "0", "yes"], sea=["1.0", "", "False"]), ["sun", "sea"])
    assert labels == ("sun", "sea")
    np.testing.assert_array_equal(member, [[1, 1], [0, 0], [1, 0]])


def test_one_column_of_0_and_1_is_one_label(table: Callable):
    member, labels = label_sets(table(sun=["1", "0", ""]), ["sun"])
    assert labels == ("sun",)
    np.testing.assert_array_equal(member, [[1], [0], [0]])


def test_what_is_no_label_is_refused(table: Callable):
    with pytest.raises(BadData, match="'2', where 1 says"):
        label_sets(table(sun=["1", "0"], sea=["2", "0"]), ["sun", "sea"])
    with pytest.raises(BadData, match="names no label at all"):
        label_sets(table(tags=["-", "none"]), ["tags"])


def test_groups_are_texts_and_none_is_empty(table: Callable):
    assert texts(table(patient=["a", " b "]), "patient").tolist() == ["a", "b"]
    with pytest.raises(BadData, match="'patient' is empty for '1.png'"):
        texts(table(patient=["a", ""]), "patient")


def test_columns_that_are_not_there(table: Callable):
    with pytest.raises(InvalidChoice, match="no column 'patent'.*did you mean 'patient'|no column 'patent'"):
        texts(table(patient=["a"]), "patent")
    with pytest.raises(InvalidChoice, match="would be one of a CSV file"):
        numbers(load("digits"), ["age"])


def test_columns_go_along_with_the_images_that_are_chosen(table: Callable):
    data = table(age=["1", "2", "3"]).select(np.array([True, False, True]))
    np.testing.assert_array_equal(numbers(data, ["age"]), [1, 3])
    np.testing.assert_array_equal(numbers(data.select(np.array([1])), ["age"]), [3])


@pytest.mark.parametrize(
    "cells",
    [
        ["['new york', 'sea']", "[]", "['sun']"],  # pandas, and str of a list
        ['["new york", "sea"]', "[]", '["sun"]'],  # JSON
        ["['new york' 'sea']", "[]", "['sun']"],  # an array of NumPy
        ["[np.str_('new york'), np.str_('sea')]", "", "[np.str_('sun')]"],
        ["('new york', \"sea\")", "()", "('sun',)"],
        ["{'sea', 'new york'}", "set()", "{'sun'}"],
        ["[new york, sea]", "[ ]", "[sun]"],
    ],
)
def test_lists_as_programs_write_them(table: Callable, cells: list[str]):
    member, labels = label_sets(table(tags=cells), ["tags"])
    assert labels == ("new york", "sea", "sun")
    np.testing.assert_array_equal(member, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_lists_of_pandas_and_json_are_read_as_they_were(tmp_path: Path):
    tags = [["it's", 'say "a"'], [], ["été; x", "a, b"], ["back\\slash", "it's"]]
    expected = ("a, b", "back\\slash", "it's", 'say "a"', "été; x")
    for name in ("0", "1", "2", "3"):
        (tmp_path / name).touch()
    for write in (str, json.dumps, lambda one: json.dumps(one, ensure_ascii=False), lambda one: str(np.array(one))):
        frame = pd.DataFrame({"id": list("0123"), "tags": [write(one) for one in tags]})
        frame.to_csv(tmp_path / "t.csv", index=False)
        member, labels = label_sets(load(str(tmp_path / "t.csv")), ["tags"])
        assert labels == expected
        assert [sorted(np.array(labels)[row]) for row in member] == [sorted(one) for one in tags]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("sun", "others are lists"),
        ("['a'", "others are lists"),
        ("{'a': 1}", "write a list as"),
        ("['a]", "write a list as"),
        ("[['a'], ['b']]", "write a list as"),
        ("[" * 100_000 + "]" * 100_000, "write a list as"),
        ("nan", "empty it if"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(table: Callable, cell: str, said: str):
    with pytest.raises(BadData, match=said) as caught:
        label_sets(table(tags=["['a']", cell]), ["tags"])
    assert len(str(caught.value)) < 400


def test_columns_of_1_and_minus_1(table: Callable):
    member, _ = label_sets(table(sun=["1", "-1"], sea=["-1", "1"]), ["sun", "sea"])
    np.testing.assert_array_equal(member, [[1, 0], [0, 1]])
    with pytest.raises(BadData, match="'-1', where 1 says"):
        label_sets(table(sun=["1", "-1"], sea=["0", "1"]), ["sun", "sea"])


def test_decimal_commas_are_read_where_they_can_be_nothing_else(table: Callable):
    data = table(age=["3,5", "4", "-0,125"], size=["1,250", "2,500", "3,750"], share=["0,250", "0,500", "1"])
    np.testing.assert_array_equal(numbers(data, ["age"]), [3.5, 4, -0.125])
    np.testing.assert_array_equal(numbers(data, ["share"]), [0.25, 0.5, 1])
    assert decimal_commas(data, ["age", "size", "share"]) == ["age", "share"]
    with pytest.raises(BadData, match="'1,250' for '0.png'; write thousands without separators"):
        numbers(data, ["size"])


@pytest.mark.parametrize("cell", ["1,234.5", "1.234,5", "1 234", "1'234", "1_234", "12%", "5 cm"])
def test_numbers_with_more_than_digits_are_refused(table: Callable, cell: str):
    with pytest.raises(BadData, match="separators|percentage|not a number"):
        numbers(table(age=["1", cell]), ["age"])


def test_a_table_without_classes_says_what_its_columns_are_for(table: Callable):
    with pytest.raises(BadData, match=r"`class_column`: it has id, breed\."):
        require_labels(table(breed=["pug", "boxer"]))
    with pytest.raises(BadData, match="with `multilabel='cat,dog'`"):
        require_labels(table(cat=["1", "0"], dog=["0", "1"]))
