"""Columns of CSV files: numbers, several labels, groups."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice
from transfer.columns import label_sets, numbers, texts
from transfer.datasets import DataSet, load


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., DataSet]:
    """Make a data set of a CSV file with these columns."""

    def make(**columns: list[str]) -> DataSet:
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
