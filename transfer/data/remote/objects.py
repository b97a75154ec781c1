"""`RemoteObjects`: the files in a folder elsewhere, which are read whole, as the members of an archive are."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from feature_cache.errors import printable
from transfer.data.remote.path import RemotePath
from transfer.data.remote.pieces import KEPT_BYTES, PIECES, unversioned


class RemoteObjects:
    """The files in a folder elsewhere, or a single file.

    Parameters
    ----------
    root : RemotePath
    names : sequence of str
        The paths of the files below `root`; the empty text is `root` itself.
    sizes : sequence of int
        Their bytes; -1 where the server does not say it.
    versions : sequence of str
        What changes whenever their content does; empty texts where the server says nothing of the kind.
    notes : tuple of str
        What was passed over, a sentence each.

    Examples
    --------
    >>> path = RemotePath.of("memory://photos/a.png")
    >>> path.file_system.pipe(path.path, b"01234")
    >>> RemoteObjects.below(path.parent).names
    ('a.png',)
    """

    def __init__(
        self,
        root: RemotePath,
        names: Sequence[str],
        sizes: Sequence[int],
        versions: Sequence[str],
        notes: tuple[str, ...] = (),
    ) -> None:
        self._root, self.names, self.notes = root, tuple(names), notes
        self._sizes, self._versions = array("q", sizes), tuple(versions)
        self._number = unversioned()

    @classmethod
    def below(cls, folder: RemotePath) -> RemoteObjects:
        """All files below a folder; for errors see `RemotePath.below`."""
        found = sorted(folder.below())
        inside = [one for one in found if _is_inside(one[0])]
        notes = []
        if len(inside) < len(found):
            outside = next(name for name, _, _ in found if not _is_inside(name))
            notes.append(
                f"passed over in {folder}: {len(found) - len(inside):,} files whose names are no paths below it, such "
                f"as {printable(outside)!r}."
            )
        names, sizes, versions = zip(*inside, strict=True) if inside else ((), (), ())
        return cls(folder, names, sizes, versions, tuple(notes))

    @classmethod
    def single(cls, path: RemotePath) -> RemoteObjects:
        """A file alone."""
        return cls(path, [""], [path.size], [path.version])

    def __str__(self) -> str:
        return str(self._root)

    def name(self, position: int) -> str:
        """The URL of a file."""
        return str(self._path(position))

    def size(self, position: int) -> int:
        """The number of bytes of a file."""
        return self._sizes[position]

    def stamp(self, position: int) -> tuple[str, int] | None:
        """The URL of a file with its version; None where the server says no version."""
        version = self._versions[position]
        return (f"{self.name(position)}!{version}", 0) if version else None

    def read(self, position: int) -> bytes:
        """The bytes of a file; see `transfer.data.containers.container.Container`."""
        size = self._sizes[position]
        if size < 0:
            raise OSError(0, "the server does not say its size; fetch it to a disk")
        path = self._path(position)
        return PIECES.read(self._key(position), size, lambda: path.part(0, size)) if size else b""

    def announce(self, position: int) -> int:
        """Begin to fetch a file that will be read; the number of its bytes."""
        size = self._sizes[position]
        if not 0 < size < KEPT_BYTES // 2:  # a larger one would push out what is kept
            return 0
        path = self._path(position)
        PIECES.start(self._key(position), size, lambda: path.part(0, size))
        return size

    def _path(self, position: int) -> RemotePath:
        name = self.names[position]
        return self._root / name if name else self._root

    def _key(self, position: int) -> tuple[str, str | int, int]:
        return self.name(position), self._versions[position] or self._number, self._sizes[position]


def _is_inside(name: str) -> bool:
    """Whether the name of a file is a path below its folder."""
    return {"", ".", ".."}.isdisjoint(name.split("/")) and "\0" not in name
