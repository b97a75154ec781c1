"""The view: one HDF5 file through which any HDF5 tool sees all segments as one dataset."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, Space
from feature_cache.errors import MissingFeatures, StorageFailure
from feature_cache.maintenance.hdf5_view import write_view
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import TEMPORARY

# What any program would do: nothing of ours, only h5py.
CODE = """
import sys
import h5py, numpy as np
if sys.argv[2:]:
    import hdf5plugin
with h5py.File(sys.argv[1]) as file:
    for name in ("features", "digest", "view"):
        np.save(name, file[name][...])
"""


def seen(file: Path, folder: Path, *more: str) -> dict[str, np.ndarray]:
    """What h5py reads of a view, in a process of its own that works in `folder`."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", CODE, str(file), *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name: np.load(folder / f"{name}.npy") for name in ("features", "digest", "view")}


def by_key(columns: dict[str, np.ndarray]) -> dict[tuple[bytes, int], np.ndarray]:
    keys = [(digest.tobytes(), int(view)) for digest, view in zip(columns["digest"], columns["view"], strict=True)]
    return dict(zip(keys, columns["features"], strict=True))


def seen_here(file: Path) -> dict[str, np.ndarray]:
    """What h5py reads of a view in this process."""
    with h5py.File(file) as view:
        return {name: view[name][...] for name in ("features", "digest", "view")}


def assert_shows(file: Path, filled: object, folder: Path | None = None, *more: str) -> None:
    found = by_key(seen(file, folder, *more) if folder else seen_here(file))
    assert len(found) == len(filled.rows)
    stored = np.asarray(filled.space.stored(filled.space.locate(filled.digests, filled.views)))
    expected = by_key({"digest": filled.digests, "view": filled.views, "features": stored})
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        np.testing.assert_array_equal(found[key], row)


def test_h5py_reads_it_from_another_folder(fill: Callable, tmp_path: Path):
    filled = fill("views")
    assert write_view(filled.space, tmp_path / "view.h5") == 12
    assert_shows(tmp_path / "view.h5", filled, tmp_path / "elsewhere")


def test_it_holds_no_rows_itself(fill: Callable, tmp_path: Path):
    filled = fill("plain", (50, 50), (3000,))
    write_view(filled.space, tmp_path / "view.h5")
    assert (tmp_path / "view.h5").stat().st_size < 50_000 < filled.space.nbytes


def test_it_may_be_moved_together_with_the_cache(fill: Callable, tmp_path: Path):
    filled = fill()
    (tmp_path / "out").mkdir()
    write_view(filled.space, tmp_path / "out" / "view.h5")
    (tmp_path / "new place é").mkdir()
    stored = filled.rows
    for name in ("out", "features"):
        shutil.move(tmp_path / name, tmp_path / "new place é" / name)
    found = by_key(seen(tmp_path / "new place é" / "out" / "view.h5", tmp_path / "elsewhere"))
    for digest, row in zip(filled.digests, stored, strict=True):
        np.testing.assert_array_equal(found[digest.tobytes(), 0], row)


@pytest.mark.parametrize("inside", ["features", "features/space"])
def test_it_may_lie_in_the_cache(fill: Callable, tmp_path: Path, inside: str):
    filled = fill()
    folder = filled.space.folder if inside.endswith("space") else filled.cache.root
    write_view(filled.space, folder / "view.h5")
    assert_shows(folder / "view.h5", filled)
    assert filled.cache.spaces() == [filled.spec.folder_name]
    filled.check()


@pytest.mark.parametrize("name", ["100%", "100%b", "a%%b", "%5b %s", "'quoted' \"twice\"", "é ü"])
def test_folders_of_any_name_will_do(fill: Callable, tmp_path: Path, name: str):
    filled = fill("plain", (2, 3))
    shutil.move(filled.cache.root, tmp_path / name)
    moved = FeatureCache(tmp_path / name)[filled.spec]
    write_view(moved, tmp_path / "view.h5")
    found = by_key(seen_here(tmp_path / "view.h5"))
    for digest, row in zip(filled.digests, filled.rows, strict=True):
        np.testing.assert_array_equal(found[digest.tobytes(), 0], row)


def test_it_may_be_written_and_read_through_a_link(fill: Callable, tmp_path: Path):
    filled = fill()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "deeper")
    write_view(filled.space, tmp_path / "link" / "view.h5")
    for folder in (tmp_path / "link", tmp_path / "deep" / "deeper"):
        assert_shows(folder / "view.h5", filled)


def test_a_relative_cache_and_a_relative_view_find_each_other(
    fill: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled = fill()
    monkeypatch.chdir(tmp_path)
    space = FeatureCache(Path("features"))[filled.spec]
    write_view(space, Path("view.h5"))
    assert_shows(tmp_path / "view.h5", filled, tmp_path / "elsewhere")


@pytest.mark.parametrize("kind", ["float16", "int8", "pca"])
def test_rows_are_shown_as_they_are_stored_with_the_means_to_decode_them(fill: Callable, tmp_path: Path, kind: str):
    filled = fill(kind)
    write_view(filled.space, tmp_path / "view.h5")
    assert_shows(tmp_path / "view.h5", filled)
    with h5py.File(tmp_path / "view.h5") as file:
        assert file.attrs["spec"] == filled.spec.to_json()
        found = {name: array[...] for name, array in file["coding"].items()} if "coding" in file else {}
        expected = filled.space.segments[0].coding
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)


def test_compressed_rows_need_the_filter(fill: Callable, tmp_path: Path):
    pytest.importorskip("hdf5plugin")
    filled = fill("compressed")
    write_view(filled.space, tmp_path / "view.h5")
    assert_shows(tmp_path / "view.h5", filled, tmp_path / "elsewhere", "hdf5plugin")
    without = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "view.h5")],
        cwd=tmp_path,
        env={**os.environ, "HDF5_PLUGIN_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert without.returncode != 0


@pytest.mark.parametrize("row_shape", [(), (1,), (2, 3, 4)])
def test_rows_of_any_shape_are_shown(fill: Callable, tmp_path: Path, row_shape: tuple[int, ...]):
    filled = fill("plain", (4, 2, 6), row_shape)
    write_view(filled.space, tmp_path / "view.h5")
    with h5py.File(tmp_path / "view.h5") as file:
        assert file["features"].shape == (12, *row_shape)
        np.testing.assert_array_equal(np.sort(file["features"][...].ravel()), np.sort(filled.rows.ravel()))


def test_rows_that_two_segments_hold_are_shown_twice(fill: Callable, tmp_path: Path):
    filled = fill("plain", (4, 2))
    columns = filled.rows[:3], filled.digests[:3], filled.views[:3]
    segment_writer.write(filled.space.folder, filled.spec, *columns, {})
    assert write_view(filled.space, tmp_path / "view.h5") == 9


def test_a_space_without_rows_has_nothing_to_show(space: Space, tmp_path: Path):
    space.create()
    with pytest.raises(MissingFeatures, match=f"^{space.folder} has no rows to show"):
        write_view(space, tmp_path / "view.h5")
    assert not (tmp_path / "view.h5").exists()


def test_a_folder_that_is_not_there_is_said_and_nothing_is_left(fill: Callable, tmp_path: Path):
    filled = fill()
    with pytest.raises(StorageFailure, match=f"cannot write the view to {tmp_path / 'none'}: No such file"):
        write_view(filled.space, tmp_path / "none" / "view.h5")
    (tmp_path / "view.h5").mkdir()
    with pytest.raises(StorageFailure, match="cannot write the view"):
        write_view(filled.space, tmp_path / "view.h5")
    assert not list(tmp_path.glob(TEMPORARY))


def test_a_link_in_a_circle_is_replaced(fill: Callable, tmp_path: Path):
    filled = fill("views")
    (tmp_path / "view.h5").symlink_to("view.h5")
    assert write_view(filled.space, tmp_path / "view.h5") == 12
    assert_shows(tmp_path / "view.h5", filled, tmp_path / "elsewhere")
