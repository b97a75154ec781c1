"""Maps of data sets and of runs: what they know of the images, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import layertap as lt
from feature_cache.errors import InvalidChoice
from layertap.workflows.feature_map import selection_command
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource, FileSource


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> lt.FeatureSet:
    data = lt.load_dataset("digits")
    cells = np.array([str(number) for number in range(120)], object)
    some = data.select(np.arange(120))
    table = Dataset(
        "digits", some.ids, some.sources, some.labels, {"age": cells, "ward": np.where(cells < "5", "a", "b")}
    )
    folder = tmp_path_factory.mktemp("features")
    return lt.extract(table, "glyphnet", layers=["block4_pool"], cache=folder, progress=False)


def test_a_data_set_has_classes_clusters_and_its_columns(digits: lt.FeatureSet) -> None:
    found = lt.feature_map(digits.dataset, digits, clusters=4, progress=False)
    assert list(found.columns) == ["class", "cluster", "age", "ward"]
    assert sorted(set(found.columns["cluster"])) == ["01", "02", "03", "04"]
    assert found.columns["age"].dtype == np.float64
    assert found.projection.points.shape == (120, 2)


def test_a_run_has_predictions_too_and_a_table_for_other_programs(digits: lt.FeatureSet, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    run = lt.train_head(digits.dataset, digits, "ridge", cv=3, progress=False)
    files = {"out": tmp_path / "map.html", "parquet": tmp_path / "map.parquet"}
    found = lt.feature_map(run, on=digits.dataset, cache=digits.cache, progress=False, **files)
    assert run.held_out is not None
    told = np.array(run.targets)[run.held_out.outputs.argmax(1)]
    assert found.columns["prediction"].tolist() == told.tolist()
    assert set(found.columns["split"]) == {f"held out by split {number}" for number in (1, 2, 3)}
    right = found.columns["prediction"] == digits.dataset.labels
    assert ((found.columns["result"] == "right") == right).all()
    assert found.columns["confidence"].min() > 0.1
    table = pyarrow.read_table(files["parquet"]).to_pydict()
    assert table["id"] == list(digits.dataset.ids)
    np.testing.assert_allclose(np.stack([table["x"], table["y"]], 1), found.projection.points, rtol=1e-6)
    assert [near["ids"][0] for near in table["neighbors"]] == list(range(120))
    rows = digits["block4_pool"][:]
    apart = np.linalg.norm(rows - rows[0], axis=1)
    np.testing.assert_allclose(table["neighbors"][0]["distances"], np.sort(apart)[:15], atol=1e-3)
    assert found.files == tuple(files.values())


def test_a_run_is_shown_on_the_images_that_it_was_trained_on(digits: lt.FeatureSet, tmp_path: Path) -> None:
    """Its data set is loaded by the options of then, not by its name alone."""
    dropped = "digit-0000"
    (tmp_path / "review.csv").write_text(f"id,action,label\n{dropped},drop,\n")
    corrected = lt.load_dataset("digits", corrections=tmp_path / "review.csv")
    features = lt.extract(corrected, "glyphnet", layers=["block4_pool"], cache=digits.cache.root, progress=False)
    run = lt.train_head(corrected, features, "ridge", cv=2, progress=False)
    shown = lt.feature_map(run, cache=digits.cache, progress=False)
    assert len(shown.data) == 1796 and dropped not in shown.data.ids


def test_mistakes_are_one_line(digits: lt.FeatureSet, tmp_path: Path) -> None:
    show: Callable[..., object] = lt.feature_map
    for options, message in (
        ({"on": "digits"}, "`on` names the images on which a run is shown"),
        ({"out": tmp_path / "no" / "map.html"}, "of map.html does not exist"),
        ({"clusters": 0}, "`clusters` is the number of clusters"),
        ({"projection": "tsne"}, "there is no map by 'tsne'"),
    ):
        with pytest.raises(InvalidChoice, match=message):
            show(digits.dataset, digits, progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_the_command_for_a_selection_names_the_folder_of_the_images(tmp_path: Path) -> None:
    names = ("a b/1.png", "c/2.png")
    files = Dataset("photos", names, tuple(FileSource(Path("my photos") / name) for name in names), None)
    assert selection_command(files) == "layertap explore selection.csv --images 'my photos' --out selection"
    arrays = Dataset("x.npz", ("0",), (ArraySource(np.zeros((4, 4), np.uint8), "0"),), None)
    assert 'lt.load_dataset("x.npz")' in selection_command(arrays)
