"""Files of nets for OpenVINO: which they are, and which files belong to them, checked before OpenVINO opens any."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from feature_cache.errors import BadData, LayertapError, UnsafeFile, printable
from feature_cache.files.checked import open_regular, require_regular
from transfer.file_signatures import kind_by_signature
from transfer.nets.openvino_files.locations import external_locations

# Kinds of files by their suffix, as messages call them.
KINDS = {".onnx": "ONNX", ".tflite": "TensorFlow Lite", ".xml": "OpenVINO"}
OPENVINO_SUFFIXES = tuple(KINDS)
LARGEST_FILE = 16 * 2**30  # bytes
_HEAD = 256  # bytes that show the kind of a file


def is_openvino_file(name: str) -> bool:
    """Whether a name is that of a file which OpenVINO reads.

    Examples
    --------
    >>> is_openvino_file("model.onnx"), is_openvino_file("model.keras")
    (True, False)
    """
    return name.lower().endswith(OPENVINO_SUFFIXES)


def kind_of_net(file: Path) -> str:
    """The kind of a net by the suffix of its file: ``ONNX``, ``TensorFlow Lite`` or ``OpenVINO``."""
    return KINDS[file.suffix.lower()]


def first_bytes(file: Path) -> bytes:
    """The bytes that a file begins with: the kind of a net shows in them, and the name of its exporter."""
    with open_regular(file, LARGEST_FILE) as stream:
        return stream.read(_HEAD)


def files_of(file: Path) -> tuple[Path, ...]:
    """The file of a net, and those that it takes weights from, all in its folder.

    Raises
    ------
    BadData
        When it is of another kind, cut short or too large, or one of the others is missing.
    UnsafeFile
        When it takes weights from elsewhere: by an absolute path, by ``..``, or through a link.
    """
    try:
        status = file.stat()
        others = _others(file, status.st_size, status.st_mtime_ns)
        beside = file.with_suffix(".bin")
        if kind_of_net(file) == "OpenVINO" and os.path.lexists(beside):  # a net may have no weights
            others = (beside.name,)
        for other in others:
            _require_inside(file, other)
        return (file, *(file.parent / other for other in others))
    except OSError as error:
        if isinstance(error, LayertapError):
            raise
        raise BadData(f"{file} cannot be read ({error.strerror or error}).") from error


def state_of(file: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when the file of a net, or one that belongs to it, is written again: paths, sizes and times."""
    found = files_of(file)
    return tuple((str(one), one.stat().st_size, one.stat().st_mtime_ns) for one in found)


def digest_of(file: Path) -> str:
    """SHA-256 of the file of a net; with the files that belong to it, of the names and digests of all."""
    return _digest(state_of(file))


@lru_cache(maxsize=64)
def _digest(state: tuple[tuple[str, int, int], ...]) -> str:
    digests = []
    for name, _, _ in state:
        with open_regular(Path(name), LARGEST_FILE) as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    folder = Path(state[0][0]).parent
    lines = [
        f"{Path(name).relative_to(folder).as_posix() if number else ''} {digest}\n"
        for number, ((name, _, _), digest) in enumerate(zip(state, digests, strict=True))
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache(maxsize=64)
def _others(file: Path, size: int, mtime: int) -> tuple[str, ...]:
    """The files that a net takes weights from, as it names them, once its own is known to be of its kind."""
    kind = kind_of_net(file)
    if size == 0:
        raise BadData(f"{file} is empty.")
    with open_regular(file, LARGEST_FILE) as stream:
        head = stream.read(_HEAD)
        if kind == "ONNX":
            try:
                return tuple(external_locations(stream))
            except ValueError as error:
                raise BadData(_not_of_its_kind(file, head, str(error))) from error
    if kind == "TensorFlow Lite" and head[4:8] != b"TFL3":
        raise BadData(_not_of_its_kind(file, head, "its first bytes are others"))
    if kind == "OpenVINO" and kind_by_signature(head) != "XML" and not head.lstrip().startswith(b"<net"):
        raise BadData(_not_of_its_kind(file, head, "it is no XML"))
    return ()


def _not_of_its_kind(file: Path, head: bytes, reason: str) -> str:
    kind = kind_by_signature(head)
    shown = f"begins as {kind}" if kind else reason
    return f"{file} is no {kind_of_net(file)} file, or it is cut short: {shown}. Export the net again."


def _require_inside(file: Path, other: str) -> None:
    """Raise where a file that a net names is not a regular file in the folder of the net."""
    shown = printable(other)
    parts = PurePosixPath(other).parts
    outside = (
        not parts
        or ".." in parts
        or "\\" in other
        or PurePosixPath(other).is_absolute()
        or PureWindowsPath(other).drive
    )
    if outside:
        raise UnsafeFile(
            f"{file} takes weights from {shown!r}, which may lie outside its folder. Export the net with its weights "
            "in the same file or folder."
        )
    path = file.parent
    for part in parts:
        path /= part
        if path.is_symlink():
            raise UnsafeFile(
                f"{file} takes weights through the link {path}, which may lead outside its folder. Put the file itself "
                "in the place of the link."
            )
    try:
        require_regular(path, LARGEST_FILE)
    except FileNotFoundError:
        raise BadData(f"{file} takes weights from {path}, which is not there; put that file beside it.") from None
    except (OSError, ValueError) as error:
        raise BadData(f"{file} takes weights from {shown!r}, which cannot be read ({error}).") from error
