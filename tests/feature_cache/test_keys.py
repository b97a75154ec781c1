"""Digests of content, keys of rows, and the memo that spares reading files again."""

from __future__ import annotations

import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from feature_cache.files.digest_memo import DigestMemo, FileStamp
from feature_cache.keys import DIGEST_BYTES, digest_array, digest_bytes, digest_pixels


def test_digest_of_bytes_is_blake2b_of_16_bytes():
    assert digest_bytes(b"layertap").hex() == "b856d4dcaad3e4e7a72563cef02e05b3"
    assert digest_bytes(b"") != digest_bytes(b"\0")


def test_digest_of_an_array_is_that_of_the_first_release():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert digest_array(array).hex() == "766b652f1300204a4387bbcbcf89c4b0"
    assert len(digest_array(array)) == DIGEST_BYTES


@pytest.mark.parametrize(
    "other",
    [
        np.arange(6, dtype=np.int8).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(3, 2),
        np.arange(6, dtype=np.uint8),
        np.arange(1, 7, dtype=np.uint8).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(2, 3)[::-1],
        np.arange(6, dtype=np.uint8).reshape(2, 3, 1),
    ],
    ids=["dtype", "shape", "flat", "values", "order", "axes"],
)
def test_digest_of_an_array_depends_on(other: np.ndarray):
    assert digest_array(other) != digest_array(np.arange(6, dtype=np.uint8).reshape(2, 3))


def test_digest_of_an_array_does_not_depend_on_its_layout_in_memory():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    strided = np.zeros((8, 12), np.float32)
    strided[::2, ::2] = array
    assert digest_array(np.asfortranarray(array)) == digest_array(array)
    assert digest_array(strided[::2, ::2]) == digest_array(array)


def _file(path: Path, content: bytes, age: float = 10) -> FileStamp:
    """Write a file last changed `age` seconds ago; its stamp."""
    path.write_bytes(content)
    changed = time.time_ns() - int(age * 1e9)
    os.utime(path, ns=(changed, changed))
    return _stamp(path)


def _stamp(path: Path) -> FileStamp:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def test_memo_recalls_files_that_have_not_changed(tmp_path: Path):
    memo = DigestMemo(tmp_path / "new folder" / "memo.sqlite")
    stamps = [_file(tmp_path / f"{name}.png", name.encode()) for name in ("a", "bé b", "c'; DROP TABLE memo")]
    memo.remember({stamp: digest_bytes(Path(stamp[0]).read_bytes()) for stamp in stamps[:2]})
    again = DigestMemo(tmp_path / "new folder" / "memo.sqlite")
    assert again.recall(stamps) == {
        str(tmp_path / "a.png"): digest_bytes(b"a"),
        str(tmp_path / "bé b.png"): digest_bytes("bé b".encode()),
    }


def test_memo_without_a_file_recalls_nothing_and_makes_none(tmp_path: Path):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    assert memo.recall([("/a.png", 1, 1)]) == {}
    memo.remember({})
    assert list(tmp_path.iterdir()) == []


def test_memo_forgets_a_file_of_another_size(tmp_path: Path):
    memo, file = DigestMemo(tmp_path / "memo.sqlite"), tmp_path / "a.png"
    before = _file(file, b"old")
    memo.remember({before: digest_bytes(b"old")})
    file.write_bytes(b"newer")
    os.utime(file, ns=(before[2], before[2]))
    assert memo.recall([_stamp(file)]) == {}
    assert memo.recall([before]) != {}


def test_memo_forgets_a_file_of_another_time_until_it_is_remembered_anew(tmp_path: Path):
    memo, file = DigestMemo(tmp_path / "memo.sqlite"), tmp_path / "a.png"
    memo.remember({_file(file, b"old"): digest_bytes(b"old")})
    after = _file(file, b"new", age=5)
    assert memo.recall([after]) == {}
    memo.remember({after: digest_bytes(b"new")})
    assert memo.recall([after]) == {str(file): digest_bytes(b"new")}


@pytest.mark.parametrize("age", [0, 1.5, -3600], ids=["now", "1.5 s ago", "in the future"])
def test_memo_does_not_trust_a_file_changed_a_moment_ago(tmp_path: Path, age: float):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    fresh, settled = _file(tmp_path / "fresh.png", b"fresh", age), _file(tmp_path / "settled.png", b"settled")
    memo.remember({fresh: digest_bytes(b"fresh"), settled: digest_bytes(b"settled")})
    assert memo.recall([fresh, settled]) == {str(tmp_path / "settled.png"): digest_bytes(b"settled")}


def test_memo_recalls_more_files_than_one_question_to_sqlite_takes(tmp_path: Path):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    digests = {(f"/images/{number}.png", number, number): digest_bytes(bytes([number % 256])) for number in range(1201)}
    memo.remember(digests)
    assert memo.recall(digests) == {path: digest for (path, _, _), digest in digests.items()}


@pytest.mark.parametrize("content", [b"", b"not a data base at all " * 100, b"SQLite format 3\0" + bytes(4000)])
def test_memo_ignores_a_corrupt_file(tmp_path: Path, content: bytes):
    file = tmp_path / "memo.sqlite"
    file.write_bytes(content)
    assert DigestMemo(file).recall([("/a.png", 1, 1)]) == {}


def test_memo_that_cannot_be_written_is_left_alone(tmp_path: Path):
    file = tmp_path / "memo.sqlite"
    file.write_bytes(b"not a data base at all " * 100)
    memo = DigestMemo(file)
    memo.remember({("/a.png", 1, 1): bytes(DIGEST_BYTES)})
    assert memo.recall([("/a.png", 1, 1)]) == {}
    assert file.read_bytes() == b"not a data base at all " * 100
    blocked = DigestMemo(file / "memo.sqlite")  # its folder is a file
    blocked.remember({("/a.png", 1, 1): bytes(DIGEST_BYTES)})
    assert blocked.recall([("/a.png", 1, 1)]) == {}


@pytest.mark.parametrize("stored", [b"short", None, 12, "sixteen letters."], ids=str)
def test_memo_ignores_what_is_not_a_digest(tmp_path: Path, stored: object):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    memo.remember({("/a.png", 1, 1): bytes(DIGEST_BYTES)})
    store = sqlite3.connect(tmp_path / "memo.sqlite")
    with store:
        store.execute("UPDATE digests SET digest = ?", (stored,))
    store.close()
    assert memo.recall([("/a.png", 1, 1)]) == {}


def test_path_that_is_not_unicode_does_not_stop_the_others(tmp_path: Path):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    odd, plain = (os.fsdecode(b"/images/\xff.png"), 1, 1), ("/images/plain.png", 1, 1)
    memo.remember({plain: digest_bytes(b"plain"), odd: digest_bytes(b"odd")})
    assert memo.recall([plain, odd]).get(plain[0]) == digest_bytes(b"plain")


def test_pixels_of_a_gray_image_have_the_digest_of_the_same_in_three_channels():
    rng = np.random.default_rng(0)
    gray, colour = rng.integers(0, 256, (5, 4, 1), np.uint8), rng.integers(0, 256, (5, 4, 3), np.uint8)
    assert digest_pixels(gray) == digest_pixels(np.repeat(gray, 3, axis=2))
    assert len({digest_pixels(some) for some in (gray, colour, colour[..., ::-1], colour.reshape(4, 5, 3))}) == 4


def test_memo_recalls_digests_of_pixels_by_how_they_were_made(tmp_path: Path):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    digests = {
        digest_bytes(bytes([n % 256, n // 256])): digest_bytes(b"pixels" + bytes([n % 256])) for n in range(1201)
    }
    memo.remember_pixels("small", digests)
    memo.remember_pixels("large", {next(iter(digests)): digest_bytes(b"other")})
    again = DigestMemo(tmp_path / "memo.sqlite")
    assert again.recall_pixels("small", [*digests, digest_bytes(b"unknown")]) == digests
    assert again.recall_pixels("large", digests) == {next(iter(digests)): digest_bytes(b"other")}
    assert again.recall_pixels("none", digests) == again.recall_pixels("small", []) == {}


def test_memo_of_an_earlier_version_takes_digests_of_pixels(tmp_path: Path):
    memo, stamp = DigestMemo(tmp_path / "memo.sqlite"), ("/a.png", 1, 1)
    memo.remember({stamp: digest_bytes(b"a")})
    assert memo.recall_pixels("small", [digest_bytes(b"a")]) == {}
    memo.remember_pixels("small", {digest_bytes(b"a"): digest_bytes(b"pixels")})
    assert memo.recall_pixels("small", [digest_bytes(b"a")]) == {digest_bytes(b"a"): digest_bytes(b"pixels")}
    assert memo.recall([stamp]) == {"/a.png": digest_bytes(b"a")}


@pytest.mark.parametrize("stored", [b"short", None, 12, "sixteen letters."], ids=str)
def test_memo_ignores_what_is_no_digest_of_pixels(tmp_path: Path, stored: object):
    memo = DigestMemo(tmp_path / "memo.sqlite")
    memo.remember_pixels("small", {digest_bytes(b"a"): digest_bytes(b"pixels")})
    store = sqlite3.connect(tmp_path / "memo.sqlite")
    with store:
        store.execute("UPDATE pixels SET pixels = ?", (stored,))
    store.close()
    assert memo.recall_pixels("small", [digest_bytes(b"a")]) == {}


@pytest.mark.parametrize("content", [b"", b"not a data base at all " * 100, b"SQLite format 3\0" + bytes(4000)])
def test_memo_has_no_digests_of_pixels_in_a_corrupt_file(tmp_path: Path, content: bytes):
    file = tmp_path / "memo.sqlite"
    file.write_bytes(content)
    assert DigestMemo(file).recall_pixels("small", [digest_bytes(b"a")]) == {}
    DigestMemo(file / "below a file").remember_pixels("small", {digest_bytes(b"a"): digest_bytes(b"pixels")})


def test_several_writers_remember_digests_of_pixels_at_once(tmp_path: Path):
    def write(number: int) -> None:
        memo = DigestMemo(tmp_path / "memo.sqlite")
        for part in range(10):
            memo.remember_pixels("small", {digest_bytes(bytes([number, part])): digest_bytes(b"pixels")})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    wanted = [digest_bytes(bytes([number, part])) for number in range(4) for part in range(10)]
    assert len(DigestMemo(tmp_path / "memo.sqlite").recall_pixels("small", wanted)) == 40


def test_a_memo_that_finds_other_paths_gives_nothing_wrong(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "digests.sqlite")) as store, store:
        store.execute("CREATE TABLE digests (path TEXT COLLATE NOCASE, size INT, mtime INT, digest BLOB)")
        store.execute("INSERT INTO digests VALUES ('/A.png', 1, 1, ?)", (bytes(16),))
    assert DigestMemo(tmp_path / "digests.sqlite").recall([("/a.png", 1, 1)]) == {}
