"""Export: rows of a space as one plain file that other programs read without us."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, Features
from feature_cache.errors import DamagedFile, InvalidChoice, MissingDependency, StorageFailure
from feature_cache.maintenance.export import FORMATS, export
from feature_cache.segments.layout import TEMPORARY

Columns = dict[str, np.ndarray]
# Accents, a byte that is no text, what a CSV must quote, and what a spreadsheet would take for a formula.
IDS = ["plain.png", "café/ü.png", "caf\udce9.png", 'a,"b"\n.png', "=1+1.png", "日本.png", " x ", ""]
# As text that can be encoded.
WRITTEN = [name.replace("\udce9", "\\udce9") for name in IDS]
KINDS = ("plain", "compressed", "float16", "int8", "pca", "views")


def columns_for(features: Features) -> Columns:
    """Columns as the command line makes them."""
    count = len(features)
    digests, views = features.keys()
    return {
        "id": np.array([IDS[number % len(IDS)] for number in range(count)], dtype=str),
        "class": np.array([f"klasse {number % 2}" for number in range(count)], dtype=str),
        "digest": np.array([digest.tobytes().hex() for digest in digests], dtype=str),
        "view": views.astype(str),
    }


def read_back(file: Path) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Features and columns as a program without us reads them."""
    if file.suffix == ".npy":
        with file.with_suffix(".csv").open(newline="", encoding="utf-8") as stream:
            head, *rows = list(csv.reader(stream))
        return np.load(file), {name: [row[place] for row in rows] for place, name in enumerate(head)}
    if file.suffix == ".npz":
        with np.load(file) as archive:
            columns = {name: archive[name].tolist() for name in archive.files if name != "features"}
            return archive["features"], columns
    if file.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(file)
        flat = table["features"].combine_chunks()
        width = flat.type.list_size
        columns = {name: table[name].to_pylist() for name in table.column_names if name != "features"}
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), width), columns
    with h5py.File(file) as stored:
        columns = {name: stored[name].asstr()[...].tolist() for name in stored if name != "features"}
        return stored["features"][...], columns


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_columns_come_back_as_they_are_in_the_cache(fill: Callable, tmp_path: Path, kind: str, suffix: str):
    filled = fill(kind, (4, 2, 6), (210,) if kind != "compressed" else (4200,))
    order = np.r_[3, 11, 0, 5, 5, 7, 1, 2, 10]
    features = filled.space.rows(filled.digests[order], filled.views[order])
    columns = columns_for(features)
    files = export(features, columns, tmp_path / f"out{suffix}")
    assert files == [path for path in (tmp_path / f"out{suffix}", tmp_path / "out.csv") if path.exists()]
    found, texts = read_back(files[0])
    assert found.dtype == features.dtype == filled.rows.dtype
    np.testing.assert_array_equal(found, filled.rows[order])
    names = IDS if suffix == ".npz" else WRITTEN
    assert texts == {
        "id": [names[number % len(names)] for number in range(9)],
        "class": columns["class"].tolist(),
        "digest": [digest.tobytes().hex() for digest in filled.digests[order]],
        "view": [str(view) for view in filled.views[order]],
    }
    assert list(texts) == list(columns) or suffix == ".h5"
    assert not list(tmp_path.glob(TEMPORARY))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("row_shape", [(), (1,), (2, 3, 4)])
def test_rows_of_any_shape(fill: Callable, tmp_path: Path, row_shape: tuple[int, ...], suffix: str):
    filled = fill("plain", (4, 2, 6), row_shape)
    features = filled.space.rows(filled.digests)
    (file, *_) = export(features, columns_for(features), tmp_path / f"out{suffix}")
    found = read_back(file)[0]
    assert found.shape == ((12, *row_shape) if suffix != ".parquet" else (12, int(np.prod(row_shape))))
    np.testing.assert_array_equal(found.reshape(filled.rows.shape), filled.rows)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("row_shape", [(), (4,), (2, 3)])
def test_no_rows_are_a_file_without_rows(fill: Callable, tmp_path: Path, row_shape: tuple[int, ...], suffix: str):
    filled = fill("plain", (4,), row_shape)
    features = filled.space.rows(filled.digests[:0])
    columns = {name: column[:0] for name, column in columns_for(filled.space.rows(filled.digests)).items()}
    (file, *_) = export(features, columns, tmp_path / f"out{suffix}")
    found, texts = read_back(file)
    assert found.size == 0
    assert len(found) == 0
    assert texts == {"id": [], "class": [], "digest": [], "view": []}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_takes_many_pieces_is_whole(
    fill: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
):
    filled = fill("plain", (20, 13), (50,))
    monkeypatch.setattr("feature_cache.maintenance.export.PIECE_BYTES", 1500)
    features = filled.space.rows(filled.digests)
    (file, *_) = export(features, columns_for(features), tmp_path / f"out{suffix}")
    found, texts = read_back(file)
    np.testing.assert_array_equal(found, filled.rows)
    assert len(texts["id"]) == 33


def test_an_array_can_be_mapped_and_an_archive_has_no_pickles(fill: Callable, tmp_path: Path):
    filled = fill()
    features = filled.space.rows(filled.digests)
    export(features, columns_for(features), tmp_path / "out.npy")
    mapped = np.load(tmp_path / "out.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(mapped[5], filled.rows[5])
    export(features, columns_for(features), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert {archive[name].dtype.kind for name in archive.files} == {"f", "U"}


def test_a_plain_hdf5_file_says_which_features_they_are(fill: Callable, tmp_path: Path):
    filled = fill("int8")
    features = filled.space.rows(filled.digests)
    export(features, columns_for(features), tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["spec"] == filled.spec.to_json()
        assert file["features"].chunks is None
        assert file["features"].id.get_offset() % 4096 == 0


def test_capitals_in_the_suffix_are_the_same_format(fill: Callable, tmp_path: Path):
    filled = fill()
    features = filled.space.rows(filled.digests)
    assert export(features, columns_for(features), tmp_path / "OUT.NPZ") == [tmp_path / "OUT.NPZ"]
    np.testing.assert_array_equal(np.load(tmp_path / "OUT.NPZ")["features"], filled.rows)


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.nyp", "'.nyp'; did you mean .*'.npy'"), ("out", "'out'"), ("out.mat", "'.mat'; allowed: .npy, .npz")],
)
def test_another_suffix_is_refused_with_those_that_there_are(fill: Callable, tmp_path: Path, name: str, said: str):
    features = fill().space.all_rows()
    with pytest.raises(InvalidChoice, match=f"^there is no export to {said}"):
        export(features, columns_for(features), tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_that_is_not_there_is_refused(fill: Callable, tmp_path: Path, suffix: str):
    features = fill().space.all_rows()
    with pytest.raises(InvalidChoice, match=f"the folder {tmp_path / 'none'} does not exist; make it first"):
        export(features, columns_for(features), tmp_path / "none" / f"out{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(StorageFailure):
        export(features, columns_for(features), tmp_path / f"folder{suffix}")
    assert not list(tmp_path.glob(TEMPORARY))


def test_without_pyarrow_parquet_says_what_to_install(fill: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = fill().space.all_rows()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency) as caught:
        export(features, columns_for(features), tmp_path / "out.parquet")
    assert str(caught.value) == "export to Parquet needs pyarrow: pip install 'layertap[parquet]'"
    assert not (tmp_path / "out.parquet").exists()


def test_a_damaged_row_stops_the_export_and_leaves_no_file(fill: Callable, flip: Callable, tmp_path: Path):
    filled = fill()
    flip(filled.files[1])
    features = filled.space.rows(filled.digests)
    for suffix in FORMATS:
        with pytest.raises(DamagedFile, match="altered since it was written"):
            export(features, columns_for(features), tmp_path / f"out{suffix}")
        assert not list(tmp_path.glob("out*"))
        assert not list(tmp_path.glob(TEMPORARY))


CODE = """
import numpy as np
from feature_cache import FeatureCache
from feature_cache.errors import StorageFailure
from feature_cache.maintenance.export import FORMATS, export
cache = FeatureCache(Path(sys.argv[1]))
features = cache.open(cache.spaces()[0]).all_rows()
for suffix in FORMATS:
    try:
        export(features, {"id": np.array(["x"] * len(features))}, Path(sys.argv[2]) / f"out{suffix}")
    except StorageFailure as error:
        print(error)
print("done")
"""


def test_a_full_disk_is_said_and_leaves_no_half_written_file(
    fill: Callable, cache: FeatureCache, small_disk: Callable, tmp_path: Path
):
    fill("plain", (30,), (2100,))
    (tmp_path / "out").mkdir()
    done = small_disk(CODE, 150_000, cache.root, tmp_path / "out")
    assert done.stderr == ""
    *said, last = done.stdout.splitlines()
    assert last == "done"
    assert len(said) == 4
    for line in said:
        assert line.startswith(f"cannot write features to {tmp_path / 'out'}: File too large. ")
    assert not list((tmp_path / "out").iterdir())


def test_a_table_that_does_not_fit_leaves_no_array_without_it(
    fill: Callable, cache: FeatureCache, small_disk: Callable, tmp_path: Path
):
    """The features fit, and the longer CSV does not."""
    fill("plain", (30,), (10,))
    (tmp_path / "out").mkdir()
    code = CODE.replace("FORMATS:", "['.npy']:").replace('["x"]', '["x" * 1000]')
    done = small_disk(code, 20_000, cache.root, tmp_path / "out")
    assert done.stdout.startswith(f"cannot write features to {tmp_path / 'out'}: File too large. "), done.stderr
    assert not list((tmp_path / "out").iterdir())
