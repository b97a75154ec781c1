"""`layertap.sweep`: features and heads in all combinations, ranked, from Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layertap as lt
from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice, MissingFeatures
from layertap.workflows.sweep import SweepResult, sweep
from transfer.data.datasets import Dataset, load

LAYERS = ["block1_pool", "block2_pool"]


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Dark and bright images of noise."""
    folder = tmp_path_factory.mktemp("shades")
    rng = np.random.default_rng(0)
    for name, least in (("bright", 100), ("dark", 0)):
        (folder / name).mkdir()
        for number in range(12):
            pixels = rng.integers(least, least + 150, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return load(str(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def result(shades: Dataset, cache: FeatureCache, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    out = tmp_path_factory.mktemp("sweeps") / "sweep"
    heads, grid = ["prototypes", "ridge"], {"prototypes.scale": [True, False]}
    join = ["block1_pool+block2_pool"]
    return sweep(shades, layers=LAYERS, join=join, heads=heads, grid=grid, cv=3, jobs=1, cache=cache, out=out)


def test_pairs_are_ranked_and_written(result: SweepResult) -> None:
    assert result.folder is not None
    assert len(result.rows) == 3 * 3
    assert {row["features"] for row in result.rows} == {*LAYERS, "block1_pool+block2_pool"}
    accuracies = [row["accuracy"] for row in result.rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert result.best is result.rows[0]
    assert result.expected["low"] <= result.expected["accuracy"] <= result.expected["high"]
    assert json.loads((result.folder / "sweep.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert Image.open(result.folder / "sweep.png").size[0] > 300
    assert len(list((result.folder / "results").iterdir())) == 9


def test_it_is_a_table_for_notebooks_and_files(result: SweepResult, tmp_path: Path) -> None:
    result.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as stream:
        assert [float(row["accuracy"]) for row in csv.DictReader(stream)] == [row["accuracy"] for row in result.rows]
    lines = str(result).splitlines()
    assert lines[0].split()[:4] == ["features", "head", "width", "accuracy"]
    assert [line.split()[0] for line in lines[1:]] == [row["features"] for row in result.rows]
    text = repr(result)
    assert "\n" not in text
    assert text.startswith(f"SweepResult({result.data!r}, 9 pairs; best: {result.best['features']} with ")
    table = result._repr_html_()
    assert table.count("<tr>") == 1 + 9
    assert "<td>block1_pool+block2_pool</td>" in table


def test_without_a_folder_nothing_is_written(
    result: SweepResult, shades: Dataset, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"layers": LAYERS[:1], "heads": ["ridge"], "cv": 3, "jobs": 1, "cache": cache}
    again = lt.sweep(shades, extract=False, **options)
    [row] = [row for row in result.rows if (row["features"], row["head"]) == (LAYERS[0], "ridge")]
    assert again.best["accuracy"] == row["accuracy"]
    assert again.folder is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["block3_pool"], "extract": False}, "Compute what is missing with `extract=True`."),
        ({"layers": LAYERS, "nets": ["glyphnet", "vgg16"]}, "`layers='block1_pool'`: of several nets, name one as"),
        ({"layers": LAYERS, "join": ["block1_pool+nowhere"]}, "`join='block1_pool+nowhere'`: give two or more of"),
        ({"layers": LAYERS, "weights": {"glyphnot": "none"}}, "`weights` are for nets of the sweep, which has no net"),
        ({"layers": LAYERS, "augment": "flip"}, "`augment` says how views differ"),
        ({"heads": ["ridge"], "grid": {"alpha": [1]}}, "`grid='alpha'`: give it as HEAD.NAME=V1,V2, of one of ridge."),
    ],
)
def test_mistakes_name_parameters(shades: Dataset, cache: FeatureCache, options: dict, message: str) -> None:
    with pytest.raises((InvalidChoice, MissingFeatures)) as caught:
        sweep(shades, **{"cv": 3, "jobs": 1, "cache": cache, **options})
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
