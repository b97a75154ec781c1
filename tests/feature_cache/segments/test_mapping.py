"""Memory maps and the window over them; where there is no room for maps, rows are read without."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cache_helpers import in_child

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.segments import mapping
from feature_cache.segments.mapping import Window, map_file

OPEN_FILES = Path("/proc/self/fd")
ROW_BYTES = (4, 12, 4004, 16384, 401408)


def mapped_rows(folder: Path, row_bytes: int, numbers: tuple[int, ...], offsets: tuple[int, ...]) -> list[np.ndarray]:
    """Rows of random bytes in a map of a file each, from an offset on."""
    rng, rows = np.random.default_rng(row_bytes), []
    for place, (number, offset) in enumerate(zip(numbers, offsets, strict=True)):
        file = folder / f"{place}.bin"
        file.write_bytes(rng.bytes(offset + number * row_bytes + 7))
        mapped = map_file(file, offset + number * row_bytes)
        rows.append(mapped[offset:].reshape(number, row_bytes))
    return rows


def assert_gathered(window: Window, rows: list[np.ndarray], rng: np.random.Generator) -> None:
    """Rows in random order, with repeats, are those that each map gives by itself."""
    parts = rng.integers(0, len(rows), 40)
    numbers = np.array([rng.integers(0, len(rows[part])) for part in parts])
    got = window.gather(window.places(parts, numbers))
    assert got.dtype == np.uint8
    expected = np.stack([rows[part][number] for part, number in zip(parts, numbers, strict=True)])
    np.testing.assert_array_equal(got, expected)
    assert got.flags.writeable
    assert not any(np.shares_memory(got, part) for part in rows)


@pytest.mark.parametrize("row_bytes", ROW_BYTES)
@pytest.mark.parametrize("offsets", [(4096,) * 4, (4096, 8192, 4096, 12288), (4097, 100, 8, 0)], ids=str)
def test_window_gathers_what_each_map_gives(tmp_path: Path, row_bytes: int, offsets: tuple[int, ...]):
    rng = np.random.default_rng(0)
    rows = mapped_rows(tmp_path, row_bytes, (5, 1, 3, 2), offsets)
    for order in ((0,), (3,), (0, 1, 2, 3), (3, 1, 0, 2), (2, 0)):
        some = [rows[place] for place in order]
        assert Window.spans(some)
        assert_gathered(Window(some), some, rng)


@pytest.mark.parametrize("row_bytes", ROW_BYTES)
def test_window_reaches_the_first_and_the_last_row_of_each_map(tmp_path: Path, row_bytes: int):
    rows = mapped_rows(tmp_path, row_bytes, (3, 4), (4096, 4100))
    window = Window(rows)
    for part, mine in enumerate(rows):
        for number in (0, len(mine) - 1):
            np.testing.assert_array_equal(
                window.gather(window.places(np.array([part]), np.array([number])))[0], mine[number]
            )


def test_window_gathers_no_rows(tmp_path: Path):
    none = np.zeros(0, np.int64)
    window = Window(mapped_rows(tmp_path, 12, (3,), (0,)))
    assert window.gather(window.places(none, none)).shape == (0, 12)


class Far:
    """Describes memory at an address where there is none; nothing of it may be looked at."""

    def __init__(self, address: int, shape: tuple[int, int]) -> None:
        self.__array_interface__ = {"version": 3, "data": (address, True), "shape": shape, "typestr": "|u1"}


def test_rows_too_far_apart_for_one_window_are_told():
    def spans(distance: int, row_bytes: int) -> bool:
        return Window.spans([np.asarray(Far(address, (2, row_bytes))) for address in (2**20, 2**20 + distance)])

    assert spans(2**30, 401408)
    assert spans(2**46, 4096)
    assert not spans(2**46 + 4, 401408)
    assert spans(2**46 + 4, 4)


def test_map_is_the_start_of_a_file_and_read_only(tmp_path: Path):
    (tmp_path / "file.bin").write_bytes(b"0123456789")
    mapped = map_file(tmp_path / "file.bin", 4)
    assert mapped.dtype == np.uint8
    assert mapped.tobytes() == b"0123"
    assert not mapped.flags.writeable
    (tmp_path / "file.bin").unlink()
    assert mapped.tobytes() == b"0123"


def test_map_beyond_the_end_of_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file.bin").write_bytes(b"0123456789")
    assert map_file(tmp_path / "file.bin", 11) is None
    (tmp_path / "file.bin").write_bytes(b"")
    assert map_file(tmp_path / "file.bin", 1) is None
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "none.bin", 1)


def test_map_is_closed_when_nobody_looks_at_it(tmp_path: Path):
    (tmp_path / "file.bin").write_bytes(b"0123456789")
    gc.collect()
    before, files = len(mapping._maps), len(list(OPEN_FILES.iterdir()))
    kept = [map_file(tmp_path / "file.bin", 10)[2:] for _ in range(5)]
    assert len(mapping._maps) == before + 5
    assert kept[0].tobytes() == b"23456789"
    kept.clear()
    gc.collect()
    assert len(mapping._maps) == before
    assert len(list(OPEN_FILES.iterdir())) == files


# Where there is no room.


@pytest.fixture
def scattered(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> tuple:
    """A cache of 30 segments, and the digests and rows in it."""
    digests, rows = made_rows(0, 90, (300,))
    for first in range(0, 90, 3):
        add(cache, digests[first : first + 3], rows[first : first + 3])
    return cache, spec, digests, rows


def _read(cache: FeatureCache, spec: FeatureSpec, digests: np.ndarray, rows: np.ndarray) -> tuple[bool, int]:
    """Whether rows are read right in all ways, and how many segments are mapped."""
    features = cache[spec].rows(digests)
    order = np.random.default_rng(0).permutation(len(rows))
    right = [
        np.array_equal(features[order], rows[order]),
        np.array_equal(features[:], rows),
        np.array_equal(features[::-7], rows[::-7]),
        all(np.array_equal(features[row], rows[row]) for row in range(len(rows))),
        all(np.array_equal(part, rows[places]) for part, places in features.batches(7, shuffle=True)),
    ]
    return all(right), len(mapping._maps)


def _read_with_few_files(files: int, *arguments: object) -> tuple[bool, int]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return _read(*arguments)


@pytest.mark.parametrize(("files", "maps"), [(1000, 30), (40, 20), (24, 12)])
def test_few_open_files_leave_rows_to_be_read_without_maps(scattered: tuple, files: int, maps: int):
    assert in_child(_read_with_few_files, files, *scattered) == (True, maps)


def _read_without_room(folder: Path, *arguments: object) -> tuple[bool, bool]:
    limit = 2**33
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    share = (limit - used) // 4 - 2**16
    file = folder / "large.bin"
    file.touch()
    os.truncate(file, share)  # takes no room on disk
    taken = map_file(file, share)
    assert map_file(file, 2**20) is None
    right, maps = _read(*arguments)
    assert taken is not None
    return right, maps < 10


def test_little_address_space_leaves_rows_to_be_read_without_maps(tmp_path: Path, scattered: tuple):
    assert in_child(_read_without_room, tmp_path, *scattered) == (True, True)


def _map_beyond_the_limit(folder: Path) -> tuple[bool, bool]:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + used // 16
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    file = folder / "large.bin"
    file.touch()
    os.truncate(file, limit // 8)
    return map_file(file, limit // 8) is None, map_file(file, 4096) is not None


def test_map_that_the_system_refuses_is_none(tmp_path: Path):
    assert in_child(_map_beyond_the_limit, tmp_path) == (True, True)


def test_part_of_the_segments_may_be_mapped_and_part_compressed(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 90, (300,))
    for first in range(0, 90, 3):
        add(cache, digests[first : first + 3], rows[first : first + 3], compress=first % 9 == 3)
    assert in_child(_read, cache, spec, digests, rows) == (True, 20)
    assert in_child(_read_with_few_files, 24, cache, spec, digests, rows) == (True, 12)
