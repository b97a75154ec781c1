"""`FeatureCache`: the cache folder, and the spaces in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, unknown
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.files.hdf5 import open_hdf5, text_attribute
from feature_cache.files.urls import require_path
from feature_cache.representation import html_table, shape_text
from feature_cache.segments.layout import MEMO_FILE, SEGMENTS, SPEC_FILE
from feature_cache.space import Space, read_spec
from feature_cache.spec import FeatureSpec
from feature_cache.units import size_text

VARIABLE = "LAYERTAP_CACHE"  # of the environment: the folder that is used where none is named
FOLDER = "features"  # in the current folder, where the variable is not set or empty


@dataclass(frozen=True)
class FeatureCache:
    """A cache folder, which need not exist yet; ``cache[spec]`` is the space of a spec, as its segments are now.

    Parameters
    ----------
    root : path
        See `default_cache` for the folder that is used where none is named.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> cache = FeatureCache(tempfile.mkdtemp())
    >>> cache  # doctest: +ELLIPSIS
    <FeatureCache ...: 0 spaces, 0 B>
    >>> spec = FeatureSpec(net="example", weights="random-0", layer="last", size=(32, 32))
    >>> len(cache[spec])
    0
    >>> with cache[spec].writer({}) as writer:
    ...     writer.append(np.zeros((1, 16), np.uint8), np.ones((1, 5), np.float32))
    >>> cache.spaces() == [spec.folder_name]
    True
    >>> len(cache[spec])
    1
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    @property
    def memo(self) -> DigestMemo:
        """The memo of the digests of files on this machine."""
        return DigestMemo(self.root / MEMO_FILE)

    def __getitem__(self, spec: FeatureSpec) -> Space:
        return Space(self.root / spec.folder_name, spec)

    def spaces(self) -> list[str]:
        """The names of the spaces in the cache, sorted."""
        found = {file.parent.name for pattern in (SPEC_FILE, SEGMENTS) for file in self.root.glob(f"*/{pattern}")}
        return sorted(name for name in found if not name.startswith("."))

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all segments."""
        return sum(_size(file) for file in self.root.glob(f"*/{SEGMENTS}"))

    def __repr__(self) -> str:
        return f"<FeatureCache {self.root}: {_counted(self.spaces())}, {size_text(self.nbytes)}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = []
        for name in self.spaces():
            try:
                space = self.open(name)
                shape = shape_text(space.row_shape or ())
                rows.append((name, f"{len(space):,}", shape, space.dtype, size_text(space.nbytes)))
            except (LayertapError, OSError):
                rows.append((name, "damaged", "", "", ""))
        title = f"Feature cache {self.root}: {_counted(rows)}, {size_text(self.nbytes)}"
        return html_table(title, rows, ("space", "rows", "a row", "dtype", "size") if rows else ())

    def folder(self, name: str) -> Path:
        """The folder of the space called `name`, which may be damaged.

        Raises
        ------
        InvalidChoice
            When there is no space of this name.
        """
        names = self.spaces()
        if not names:
            raise InvalidChoice(f"{self.root} holds no features; compute some with: layertap extract.")
        if name not in names:
            raise unknown(f"{self.root} has no space", name, names, "List them with: layertap cache list.")
        return self.root / name

    def open(self, name: str) -> Space:
        """The space called `name`.

        Raises
        ------
        InvalidChoice
            When there is no space of this name.
        DamagedFile
            When its spec cannot be read.
        """
        folder = self.folder(name)
        if (folder / SPEC_FILE).exists():
            return Space(folder, read_spec(folder / SPEC_FILE))
        for path in sorted(folder.glob(SEGMENTS)):  # every segment knows its spec
            with contextlib.suppress(OSError, KeyError, DamagedFile), open_hdf5(path) as file:
                spec = FeatureSpec.from_json(text_attribute(file, "spec"))
                if spec.folder_name == name:
                    return Space(folder, spec)
        raise DamagedFile(f"{folder} has no {SPEC_FILE} and no segment that tells its spec; move it away.")


def default_cache() -> FeatureCache:
    """The cache that is used where none is named: the folder ``$LAYERTAP_CACHE``, or ``./features``."""
    return FeatureCache(Path(os.environ.get(VARIABLE) or FOLDER))


def as_cache(cache: FeatureCache | str | os.PathLike[str] | None) -> FeatureCache:
    """The cache that a parameter names.

    Parameters
    ----------
    cache : FeatureCache, path or None
        None, or an empty text, is the default cache (see `default_cache`).

    Examples
    --------
    >>> as_cache("photos/features").root.name
    'features'
    """
    if cache is None or cache == "":
        return default_cache()
    if isinstance(cache, str):
        require_path(cache, "a cache of features")
    return cache if isinstance(cache, FeatureCache) else FeatureCache(Path(cache))


def _counted(spaces: Sequence[object]) -> str:
    return f"{len(spaces):,} {'space' if len(spaces) == 1 else 'spaces'}"


def _size(file: Path) -> int:
    """Bytes of a file, which may be removed meanwhile."""
    try:
        return file.stat().st_size
    except OSError:
        return 0
