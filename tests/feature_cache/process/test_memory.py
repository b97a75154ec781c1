"""Arrays that are set aside, so that a process needs less memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from feature_cache.process.memory import SMALL, set_aside

ARRAY = np.random.default_rng(0).integers(0, 256, (SMALL // 16, 16), dtype=np.uint8)


def test_an_array_that_is_set_aside_is_the_same_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    aside = set_aside(ARRAY[:, ::-1])
    np.testing.assert_array_equal(aside, ARRAY[:, ::-1])
    assert aside.dtype == ARRAY.dtype and not aside.flags.writeable and not list(tmp_path.iterdir())


def test_an_array_stays_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert set_aside(ARRAY) is ARRAY
