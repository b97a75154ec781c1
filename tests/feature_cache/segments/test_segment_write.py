"""A segment is written whole or not at all: what fails in the middle leaves nothing behind."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cache_helpers import in_child, stored_rows

from feature_cache import FeatureSpec
from feature_cache.errors import StorageFailure
from feature_cache.segments import segment_writer

N = 40


@pytest.fixture
def columns(made_rows: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, digests and views of N rows: 10 KiB of features."""
    digests, features = made_rows(0, N, (8, 8))
    return features * np.float32(1.1), digests, (np.arange(N) % 3).astype(np.uint32)


def failure_in(folder: Path, reason: str) -> str:
    return (
        f"cannot write features to {folder}: {reason}. What was written before is intact; "
        "make room or choose another folder, then run the same command again."
    )


def test_write_into_a_folder_that_is_gone_is_a_storage_failure(
    tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool
):
    folder = tmp_path / "gone"
    with pytest.raises(StorageFailure) as caught:
        segment_writer.write(folder, spec, *columns, {}, compress=compress)
    assert str(caught.value) == failure_in(folder, "No such file or directory")
    assert not folder.exists()


def test_write_that_raises_in_the_middle_leaves_nothing(
    tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool
):
    with pytest.raises(TypeError, match="not JSON serializable"):
        segment_writer.write(tmp_path, spec, *columns, {"engine": object()}, compress=compress)
    assert list(tmp_path.iterdir()) == []


def test_interrupt_in_the_middle_leaves_nothing(tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool):
    class Interrupted(dict):
        def items(self):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_writer.write(tmp_path, spec, *columns, Interrupted(engine="test"), compress=compress)
    assert list(tmp_path.iterdir()) == []


def _write_with_little_room(limit: int, *arguments: object, compress: bool) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        segment_writer.write(*arguments, {}, compress=compress)
    except StorageFailure as error:
        return str(error)
    return "written"


def _write_plain(limit: int, *arguments: object) -> str:
    return _write_with_little_room(limit, *arguments, compress=False)


def _write_compressed(limit: int, *arguments: object) -> str:
    return _write_with_little_room(limit, *arguments, compress=True)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_full_disk_is_a_storage_failure_and_leaves_what_was_there(
    tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool, share: float
):
    file = segment_writer.write(tmp_path, spec, *columns, {}, compress=compress)
    limit = max(1, int(share * file.stat().st_size))
    said = in_child(_write_compressed if compress else _write_plain, limit, tmp_path, spec, *columns)
    assert said == failure_in(tmp_path, "File too large")
    assert list(tmp_path.iterdir()) == [file]
    np.testing.assert_array_equal(stored_rows(file, spec), columns[0])
