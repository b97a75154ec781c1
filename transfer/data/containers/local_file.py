"""`LocalFile`: a file that several threads read at any place."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData
from feature_cache.files.checked import open_regular


class LocalFile:
    """A regular file that is read at any place, by several threads at the same time; it is opened when it is needed.

    Examples
    --------
    >>> _ = Path("five").write_bytes(b"01234")
    >>> LocalFile(Path("five")).read(1, 3)
    b'123'
    """

    def __init__(self, path: Path) -> None:
        self._name, self.path = str(path), path.absolute()
        self._stream: io.BufferedReader | None = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self._name

    def __getstate__(self) -> dict[str, Any]:
        """The path alone: another process opens the file for itself."""
        return {"name": self._name, "path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]
        self._name = state["name"]

    def size(self) -> int:
        """The number of bytes; 0 where there is no such file."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def stamp_of(self, name: str) -> tuple[str, int] | None:
        """The absolute path of a member with the size of the file, and the time; None where there is no such file.

        The names of members begin with the path of the file as it was given: a `Path` need not be made for each.
        The size is a part of the name, so that a file which has grown within the same time is another one.
        """
        try:
            status = self.path.stat()
        except OSError:
            return None
        return f"{self.path}{name.removeprefix(self._name)}!{status.st_size}", max(
            status.st_mtime_ns, status.st_ctime_ns
        )

    def open(self) -> io.BufferedReader:
        """The file, opened once more.

        Raises
        ------
        BadData
            When it cannot be opened.
        """
        try:
            return open_regular(self.path)
        except OSError as error:
            raise BadData(f"cannot read {self.path}: {error.strerror}.") from error

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end of the file.

        Raises
        ------
        OSError
            When the file cannot be read.
        """
        with self._lock:
            if self._stream is None:
                self._stream = open_regular(self.path)
            if not hasattr(os, "pread"):  # on Windows
                self._stream.seek(offset)
                return self._stream.read(count)
        return os.pread(self._stream.fileno(), count, offset)

    def announce(self, offset: int, count: int) -> int:
        """0: the system reads ahead by itself."""
        return 0
