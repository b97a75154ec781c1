"""Spaces of every kind, filled with known rows, for the tests of upkeep."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.segments import encoding, segment_writer
from feature_cache.segments.layout import SEGMENTS

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("plain", "compressed", "float16", "int8", "pca", "views")


@dataclass(frozen=True)
class Filled:
    """A space, and what each of its rows must read as."""

    cache: FeatureCache
    spec: FeatureSpec
    digests: np.ndarray
    views: np.ndarray
    rows: np.ndarray

    @property
    def space(self) -> Space:
        """As its segments are now."""
        return self.cache[self.spec]

    @property
    def files(self) -> list[Path]:
        """Its segments, the one with the first rows first."""
        found = {part.path: int((self.digests == part.digests[0]).all(1).argmax()) for part in self.space.segments}
        return sorted(found, key=found.__getitem__)

    def check(self) -> None:
        """Every row is there and is bit by bit what it was."""
        features = self.space.rows(self.digests, self.views)
        found = np.asarray(features)
        assert found.dtype == self.rows.dtype
        np.testing.assert_array_equal(found, self.rows)


@pytest.fixture
def fill(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable) -> Callable[..., Filled]:
    """A function that fills a space of some kind, one segment for each of `parts` rows."""

    def make(kind: str = "plain", parts: tuple[int, ...] = (4, 2, 6), row_shape: tuple[int, ...] = (2100,)) -> Filled:
        total = sum(parts)
        rng = np.random.default_rng(total)
        features = np.maximum(rng.normal(size=(total, *row_shape)), 0).astype(np.float32)
        digests, views = made_rows(0, total, row_shape)[0], np.zeros(total, np.uint32)
        own, parameters, stored, read = spec, {}, features, features
        if kind == "views":
            digests, views = np.repeat(digests[: -(-total // 3)], 3, axis=0)[:total], np.arange(total) % 3
            views = views.astype(np.uint32)
        elif kind == "float16":
            own = replace(spec, dtype="float16")
            stored = read = features.astype(np.float16)
        elif kind == "int8":
            parameters = encoding.int8_parameters(np.abs(features).reshape(-1, row_shape[-1]).max(0))
            own = replace(spec, dtype="int8", coding=f"int8-{encoding.digest(parameters)}")
            stored = encoding.to_int8(features, parameters)
            read = stored * parameters["scale"]
        elif kind == "pca":
            axes = np.linalg.qr(rng.normal(size=(features[0].size, 3)))[0].T
            parameters = {"mean": features.mean(0).reshape(-1), "axes": np.ascontiguousarray(axes, np.float32)}
            own = replace(spec, coding=f"pca3-{encoding.digest(parameters)}")
            stored = read = encoding.to_axes(features, parameters)
        cache[own].create()
        start = 0
        for count in parts:
            part = slice(start, start + count)
            columns = stored[part], digests[part], views[part]
            provenance = {"engine": "test", "finished": f"2026-01-01T00:00:{start:02d}Z"}
            compress = kind == "compressed"
            segment_writer.write(cache[own].folder, own, *columns, provenance, coding=parameters, compress=compress)
            start += count
        return Filled(cache, own, digests, views, read)

    return make


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """A function that alters one bit of the features of a segment."""

    def damage(path: Path) -> None:
        import h5py

        with h5py.File(path) as file:
            data = file["features"].id
            offset = data.get_chunk_info(0).byte_offset if file["features"].chunks else data.get_offset()
        content = bytearray(path.read_bytes())
        content[offset + 20] ^= 4
        path.write_bytes(content)

    return damage


@pytest.fixture
def listing() -> Callable[[Path], dict[str, bytes]]:
    """A function that tells the name and content of every file below a folder, but for when a space was used."""

    def look(folder: Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".used"]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return look


@pytest.fixture
def small_disk() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python code in a process of its own, whose files may not grow beyond some bytes."""

    def run(code: str, most: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        head = (
            "import resource, signal, sys\nfrom pathlib import Path\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        )
        return subprocess.run(
            [sys.executable, "-c", head + code, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def names() -> Callable[[Path], list[str]]:
    """A function that lists the segments in a folder."""
    return lambda folder: sorted(path.name for path in folder.glob(SEGMENTS))
