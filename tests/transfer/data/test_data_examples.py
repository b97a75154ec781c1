"""The examples in the docstrings of the data room, and of what people call to load and explore data, run as written."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import transfer.data

MODULES = [
    *(module.name for module in pkgutil.walk_packages(transfer.data.__path__, "transfer.data.")),
    "transfer.file_signatures",
    "layertap.workflows.explore",
    "layertap.workflows.load_dataset",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write a cache
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_public_names_have_examples() -> None:
    finder = doctest.DocTestFinder()
    with_examples = {
        test.name for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples
    }
    assert with_examples >= {
        "layertap.workflows.explore.explore",
        "layertap.workflows.load_dataset.load_dataset",
        "transfer.data.array_like.as_dataset",
        "transfer.data.augment.Augmentation",
        "transfer.data.columns.label_sets",
        "transfer.data.columns.numbers",
        "transfer.data.columns.texts",
        "transfer.data.dataset.Dataset",
        "transfer.data.dataset.IdentifiedDataset",
        "transfer.data.datasets.from_files",
        "transfer.data.datasets.load",
        "transfer.data.datasets.require_labels",
        "transfer.data.copies.duplicates.find_copies",
        "transfer.data.copies.groups.merge_groups",
        "transfer.data.images.pixels.read_pixels",
        "transfer.data.images.pixels.thumbnail",
        "transfer.data.images.pixels.to_pixels",
        "transfer.data.images.sources.ArraySource",
        "transfer.data.images.sources.FileSource",
        "transfer.data.pages.expand_pages",
        "transfer.data.pages.with_max_pixels",
        "transfer.data.survey.summary",
        "transfer.data.survey.survey",
    }
