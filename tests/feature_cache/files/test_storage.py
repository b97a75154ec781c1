"""Files appear whole or not at all: after an error, an interrupt, and on a disk that is full."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_helpers import in_child

from feature_cache import FeatureSpec, Space
from feature_cache.errors import DamagedFile, StorageFailure
from feature_cache.files.atomic import abandoned, new_file, new_folder, remove_abandoned, replacement
from feature_cache.files.hdf5 import new_hdf5, open_hdf5

DAY = 24 * 3600


def test_file_appears_when_all_is_written(tmp_path: Path):
    path = tmp_path / "result.bin"
    with new_file(path) as file:
        file.write(b"one ")
        assert not path.exists()
        (aside,) = tmp_path.iterdir()
        assert re.fullmatch(r"\.result\.bin\.[0-9a-f]{32}\.tmp", aside.name)
        file.write(memoryview(np.arange(3, dtype=np.uint16)))
    assert path.read_bytes() == b"one \0\0\1\0\2\0"
    assert list(tmp_path.iterdir()) == [path]


def test_file_can_be_written_in_any_order_and_cut(tmp_path: Path):
    with new_file(tmp_path / "result.bin") as file:
        assert file.write(b"0123456789") == 10
        file.seek(3)
        assert file.write(b"abc") == 3
        assert file.tell() == 6
        file.seek(20)
        file.write(b"end")
        file.truncate(21)
    assert (tmp_path / "result.bin").read_bytes() == b"012abc6789" + bytes(10) + b"e"


def test_hdf5_file_appears_whole_and_its_data_begin_on_a_page(tmp_path: Path):
    path = tmp_path / "result.h5"
    with new_hdf5(path) as file:
        file["small"], file["large"] = np.arange(3), np.arange(5000)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    with open_hdf5(path) as file:
        assert file["small"][...].tolist() == [0, 1, 2]
        assert file["large"].id.get_offset() % 4096 == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("new", [new_file, new_hdf5])
def test_error_or_interrupt_leaves_what_was_there(tmp_path: Path, new: object, error: type[BaseException]):
    path = tmp_path / "result.h5"
    path.write_bytes(b"old")
    with pytest.raises(error), new(path) as file:
        if new is new_hdf5:
            file["half"] = np.arange(5000)
        else:
            file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_file_takes_the_place_of_an_older_one(tmp_path: Path):
    path = tmp_path / "result.bin"
    path.write_bytes(b"old and longer")
    with path.open("rb") as held, new_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old and longer"
        assert held.read() == b"old and longer"
    assert path.read_bytes() == b"new"


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path):
    path = tmp_path / "result.bin"
    with new_file(path) as one, new_file(path) as other:
        one.write(b"one")
        other.write(b"the other")
    assert path.read_bytes() == b"one"  # the last that ended
    assert list(tmp_path.iterdir()) == [path]


def test_name_as_long_as_the_system_takes_is_taken(tmp_path: Path):
    path = tmp_path / ("x" * 252 + ".h5")
    with new_file(path) as file:
        file.write(b"x")
    assert path.exists()


def test_folder_takes_the_place_of_an_older_one_or_leaves_it(tmp_path: Path):
    path = tmp_path / "result"
    for number in range(2):
        with replacement(path) as temporary:
            temporary.mkdir()
            (temporary / f"{number}.txt").touch()
            assert [file.name for file in path.glob("*")] == ["0.txt"] * number
        assert [file.name for file in path.iterdir()] == [f"{number}.txt"]
    with pytest.raises(ZeroDivisionError), replacement(path) as temporary:
        temporary.mkdir()
        raise ZeroDivisionError
    assert [file.name for file in path.iterdir()] == ["1.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_moved_into_place_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, rename = tmp_path / "result", os.rename
    path.mkdir()
    (path / "old.txt").touch()

    def refused(source: Path, target: Path) -> None:
        if Path(source).suffix == ".tmp":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(OSError, match="No space left"), replacement(path) as temporary:
        temporary.mkdir()
    assert [file.name for file in path.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done, sync, rename = [], os.fsync, os.rename

    def synced(handle: int) -> None:
        done.append(("sync", Path(f"/proc/self/fd/{handle}").resolve()))
        sync(handle)

    def renamed(source: Path, target: Path) -> None:
        done.append(("rename", Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    with new_hdf5(tmp_path / "result.h5") as file:
        file["data"] = np.arange(3)
        (aside,) = tmp_path.iterdir()
    assert done == [("sync", aside), ("rename", tmp_path / "result.h5"), ("sync", tmp_path)]
    done.clear()
    new_folder(tmp_path / "a" / "b")
    assert sorted(done) == [("sync", tmp_path), ("sync", tmp_path / "a")]
    done.clear()
    with new_file(tmp_path / "again.bin", sync=False):
        pass
    assert done == [("rename", tmp_path / "again.bin")]


# What the system refuses.


def failure_in(folder: Path, what: str, reason: str) -> str:
    return (
        f"cannot write {what} to {folder}: {reason}. What was written before is intact; "
        "make room or choose another folder, then run the same command again."
    )


def test_folder_that_is_not_there_is_a_storage_failure(tmp_path: Path):
    with pytest.raises(StorageFailure) as caught, new_file(tmp_path / "none" / "result.bin"):
        pytest.fail("nothing to write to")
    assert str(caught.value) == failure_in(tmp_path / "none", "features", "No such file or directory")


def test_folder_in_place_of_the_file_is_a_storage_failure(tmp_path: Path):
    (tmp_path / "result.bin" / "inside").mkdir(parents=True)
    with pytest.raises(StorageFailure) as caught, new_file(tmp_path / "result.bin", "the index") as file:
        file.write(b"x")
    assert str(caught.value) == failure_in(tmp_path, "the index", "Is a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["result.bin"]


def test_file_in_place_of_a_folder_is_not_removed(tmp_path: Path):
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(OSError, match="Not a directory|File exists"):
        new_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_text() == "in the way"


def test_damage_met_while_writing_is_told_as_such(tmp_path: Path):
    with pytest.raises(DamagedFile, match="^segment is damaged$"), new_hdf5(tmp_path / "merged.h5"):
        raise DamagedFile("segment is damaged")
    assert list(tmp_path.iterdir()) == []


def _write_with_a_limit(path: Path, limit: int, hdf5: bool) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return _write(path, hdf5)


def _write(path: Path, hdf5: bool) -> str:
    try:
        if hdf5:
            with new_hdf5(path) as file:
                for name in "abc":
                    file[name] = np.arange(5000)
                    file.attrs[name] = "x" * 500
        else:
            with new_file(path) as file:
                for _ in range(3):
                    assert file.write(bytes(40_000)) == 40_000
    except StorageFailure as error:
        return str(error)
    return "written"


@pytest.mark.parametrize("limit", [1, 2000, 41_000, 80_000, 119_999])
@pytest.mark.parametrize("hdf5", [False, True], ids=["plain", "hdf5"])
def test_full_disk_is_a_storage_failure_and_leaves_nothing(tmp_path: Path, limit: int, hdf5: bool):
    said = in_child(_write_with_a_limit, tmp_path / "result.h5", limit, hdf5)
    assert said == failure_in(tmp_path, "features", "File too large")
    assert list(tmp_path.iterdir()) == []


def _fill_a_small_disk(folder: Path) -> tuple[list[str], list[str], bool] | None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, recursive = 0x20000, 1 << 18, 1 << 14
    if libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, private | recursive, None):
        return None  # only who administrates a machine may do that
    if libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"size=640k"):
        return None
    said = [_write(folder / f"{number}.h5", hdf5=True) for number in range(5)]
    whole = True
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            whole &= all((file[name][...] == np.arange(5000)).all() for name in "abc")
    return said, sorted(path.name for path in folder.iterdir()), whole


def test_disk_that_becomes_full_keeps_what_was_written_before(tmp_path: Path):
    outcome = in_child(_fill_a_small_disk, tmp_path)
    if outcome is None:
        pytest.skip("a small disk of its own needs privileges")
    said, names, whole = outcome
    full = failure_in(tmp_path, "features", "No space left on device")
    assert said == ["written"] * 4 + [full]
    assert names == ["0.h5", "1.h5", "2.h5", "3.h5"]
    assert whole


# What killed writers leave behind.


def aged(path: Path, seconds: float) -> Path:
    """`path`, written anew that long ago."""
    path.write_bytes(b"half")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_only_temporary_files_that_nobody_has_written_to_for_a_day_are_abandoned(tmp_path: Path):
    old = [aged(tmp_path / f".segment-{number}.0f.tmp", DAY + 60 * number) for number in (1, 2)]
    aged(tmp_path / ".segment-3.0f.tmp", DAY - 60)
    aged(tmp_path / ".segment-4.0f.tmp", -60)
    for name in ("segment-5.h5", "notes.tmp", ".hidden", "spec.json"):
        aged(tmp_path / name, 10 * DAY)
    before = set(tmp_path.iterdir())
    assert sorted(abandoned(tmp_path)) == old
    assert sorted(abandoned(tmp_path, 90_000 - 3600 + 90)) == old[1:]
    remove_abandoned(tmp_path)
    assert set(tmp_path.iterdir()) == before - set(old)
    remove_abandoned(tmp_path)


def test_nothing_is_abandoned_in_a_folder_that_is_not_there(tmp_path: Path):
    assert abandoned(tmp_path / "none") == []


def test_writer_removes_what_was_abandoned_in_its_space_and_a_reader_does_not(space: Space, spec: FeatureSpec):
    space.create()
    old, fresh = aged(space.folder / ".segment-1.0f.tmp", 2 * DAY), aged(space.folder / ".segment-2.0f.tmp", 60)
    space.rows(np.zeros((0, 16), np.uint8))
    assert old.exists()
    space.create()
    assert not old.exists()
    assert fresh.exists()
