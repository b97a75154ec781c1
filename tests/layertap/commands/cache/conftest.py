"""A cache with features of a small data set, for the tests of `layertap cache`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, Space
from feature_cache.segments import segment_writer


@dataclass(frozen=True)
class Extracted:
    """``data``, 12 images in two classes, and ``features`` with their rows at two layers, in two segments each.

    Attributes
    ----------
    names : (str, str)
        Of the spaces: block1_pool with 32 features, block2_pool with 64.
    """

    folder: Path
    names: tuple[str, str]

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def cache(self) -> FeatureCache:
        return FeatureCache(self.folder / "features")

    @property
    def space(self) -> Space:
        """The first space, as it is now."""
        return self.cache.open(self.name)

    def segment(self, rows: int) -> Path:
        """The file of a segment of the first space with so many rows."""
        return next(part.path for part in self.space.segments if len(part) == rows)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, make_classes: Callable) -> Extracted:
    from transfer.data import datasets
    from transfer.extraction.extract import extract
    from transfer.nets.catalogue import Net
    from transfer.request import FeatureRequest

    folder = tmp_path_factory.mktemp("original")
    make_classes(folder / "data")
    request = FeatureRequest(Net("glyphnet"), ("block1_pool", "block2_pool"))
    everything = datasets.load(str(folder / "data"))
    for chosen in (np.arange(4), np.arange(12)):
        extract(everything.select(chosen), request, FeatureCache(folder / "features"))
    return Extracted(folder, tuple(spec.folder_name for spec in request.specs))


@pytest.fixture
def extracted(original: Extracted, tmp_path: Path) -> Extracted:
    """A copy of its own for each test, in `tmp_path`, where `main` works."""
    shutil.copytree(original.folder, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / "features").glob("digests.sqlite*"):
        file.unlink()
    return Extracted(tmp_path, original.names)


@pytest.fixture
def own_conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets that other tests have converted are not seen, nor removed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """A function that alters one bit of the features of a segment."""

    def damage(path: Path) -> None:
        import h5py

        with h5py.File(path) as file:
            offset = file["features"].id.get_offset()
        content = bytearray(path.read_bytes())
        content[offset + 20] ^= 4
        path.write_bytes(content)

    return damage


@pytest.fixture
def alter() -> Callable[[Space, Callable[[np.ndarray], np.ndarray]], None]:
    """A function that writes the rows of a space again with other numbers, which have valid checks."""

    def change(space: Space, how: Callable[[np.ndarray], np.ndarray]) -> None:
        for part in space.segments:
            stored = how(space.stored(space.index.find(part.digests, part.views)))
            columns = stored, part.digests, part.views, part.provenance
            segment_writer.write(space.folder, space.spec, *columns, coding=part.coding)
            part.path.unlink()

    return change


@pytest.fixture
def age() -> Callable[[Space, float], None]:
    """A function to make it look as if a space was last used some days ago."""

    def make(space: Space, days: float) -> None:
        import time

        then = time.time() - days * 24 * 3600
        os.utime(space.folder / ".used", (then, then))

    return make
