"""`FeatureCache`: the cache folder, and the spaces in it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from feature_cache.errors import DamagedFile, InvalidChoice, unknown
from feature_cache.files.hdf5 import open_hdf5, text_attribute
from feature_cache.keys import DigestMemo
from feature_cache.segments.layout import MEMO_FILE, SEGMENTS, SPEC_FILE
from feature_cache.space import Space, read_spec
from feature_cache.spec import FeatureSpec

VARIABLE = "LAYERTAP_CACHE"  # of the environment: the folder that is used where none is named
FOLDER = "features"  # in the current folder, where the variable is not set or empty


@dataclass(frozen=True)
class FeatureCache:
    """A cache folder, ``./features`` unless the user says otherwise. It need not exist yet.

    ``cache[spec]`` is the space of a spec, as its segments are now.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    @property
    def memo(self) -> DigestMemo:
        """What is known of the digests of files on this machine."""
        return DigestMemo(self.root / MEMO_FILE)

    def __getitem__(self, spec: FeatureSpec) -> Space:
        return Space(self.root / spec.folder, spec)

    def spaces(self) -> list[str]:
        """The names of the spaces in the cache, sorted."""
        found = {file.parent.name for pattern in (SPEC_FILE, SEGMENTS) for file in self.root.glob(f"*/{pattern}")}
        return sorted(name for name in found if not name.startswith("."))

    def folder(self, name: str) -> Path:
        """The folder of the space called `name`, which may be damaged.

        Raises
        ------
        InvalidChoice
            When there is none.
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
            When there is none.
        DamagedFile
            When its spec cannot be read.
        """
        folder = self.folder(name)
        if (folder / SPEC_FILE).exists():
            return Space(folder, read_spec(folder / SPEC_FILE))
        for path in sorted(folder.glob(SEGMENTS)):  # every segment knows its spec
            with contextlib.suppress(OSError, KeyError, DamagedFile), open_hdf5(path) as file:
                spec = FeatureSpec.from_json(text_attribute(file, "spec"))
                if spec.folder == name:
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
    return cache if isinstance(cache, FeatureCache) else FeatureCache(Path(cache))
