"""`FeatureCache`: the cache folder, and the spaces in it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, unknown
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.files.hdf5 import text_attribute
from feature_cache.files.urls import is_url, local_path, scheme
from feature_cache.remote import storage
from feature_cache.remote.mirror import mirror_at
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
    root : path or URL
        A folder; or a URL that fsspec writes to, such as ``s3://bucket/features``, which is read and written through a
        mirror on this disk (see `feature_cache.remote.mirror`). The attribute is the folder of the mirror then, and the
        text of the cache is the URL. See `default_cache` for what is used where none is named.

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
        object.__setattr__(self, "root", _root(self.root))

    def __str__(self) -> str:
        return storage.shown(self.root)

    @property
    def url(self) -> str:
        """The URL of a cache in a bucket; empty for one on disk."""
        return str(self) if storage.is_remote(self.root) else ""

    @property
    def memo(self) -> DigestMemo:
        """The memo of the digests of files on this machine."""
        return DigestMemo(self.root / MEMO_FILE)

    def __getitem__(self, spec: FeatureSpec) -> Space:
        return Space(self.root / spec.folder_name, spec)

    def spaces(self) -> list[str]:
        """The names of the spaces in the cache, sorted."""
        return storage.space_names(self.root)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all segments."""
        return storage.nbytes(self.root)

    def __repr__(self) -> str:
        return f"<FeatureCache {self}: {_counted(self.spaces())}, {size_text(self.nbytes)}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = []
        for name in self.spaces():
            try:
                space = self.open(name)
                shape = shape_text(space.row_shape or ())
                rows.append((name, f"{len(space):,}", shape, space.dtype, size_text(space.nbytes)))
            except (LayertapError, OSError):
                rows.append((name, "damaged", "", "", ""))
        title = f"Feature cache {self}: {_counted(rows)}, {size_text(self.nbytes)}"
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
            raise InvalidChoice(f"{self} holds no features; compute some with: layertap extract.")
        if name not in names:
            raise unknown(f"{self} has no space", name, names, "List them with: layertap cache list.")
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
        if storage.exists(folder / SPEC_FILE):
            return Space(folder, read_spec(folder / SPEC_FILE))
        for path in storage.matching(folder, SEGMENTS):  # every segment knows its spec
            with contextlib.suppress(OSError, KeyError, ValueError, DamagedFile), _opened(path) as file:
                spec = FeatureSpec.from_json(text_attribute(file, "spec"))
                if spec.folder_name == name:
                    return Space(folder, spec)
        raise DamagedFile(
            f"{storage.shown(folder)} has no {SPEC_FILE} and no segment that tells its spec; move it away."
        )


def default_cache() -> FeatureCache:
    """The cache that is used where none is named: ``$LAYERTAP_CACHE``, a folder or a URL, or ``./features``."""
    return FeatureCache(_root(os.environ.get(VARIABLE) or FOLDER))


def as_cache(cache: FeatureCache | str | os.PathLike[str] | None) -> FeatureCache:
    """The cache that a parameter names.

    Parameters
    ----------
    cache : FeatureCache, path, URL or None
        None, or an empty text, is the default cache (see `default_cache`).

    Examples
    --------
    >>> as_cache("photos/features").root.name
    'features'
    """
    if cache is None or cache == "":
        return default_cache()
    return cache if isinstance(cache, FeatureCache) else FeatureCache(_root(cache))


def _counted(spaces: Sequence[object]) -> str:
    return f"{len(spaces):,} {'space' if len(spaces) == 1 else 'spaces'}"


def _root(place: str | os.PathLike[str]) -> Path:
    """The folder of a cache: itself, or that of the mirror of a cache under a URL."""
    text = os.fspath(place)
    if not isinstance(place, str) and re.match(r"[a-z][a-z0-9+.-]+:/", text):  # what `Path` leaves of a URL
        raise InvalidChoice(f"the cache {text} is a URL that was made a path; give it as text.")
    if not isinstance(place, str) or not is_url(text):
        return Path(text)
    return local_path(text) if scheme(text) == "file" else mirror_at(text).root


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A segment to read little of."""
    with storage.looked_into(path) as (stream, _), h5py.File(stream, "r") as file:
        yield file
