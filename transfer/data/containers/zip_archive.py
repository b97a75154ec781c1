"""Zip archives: members are read at random, and what an archive declares is not trusted."""

from __future__ import annotations

import copy
import stat
import struct
import zipfile
import zlib
from typing import NamedTuple, Self

import numpy as np

from feature_cache.errors import BadData, Unreachable, one_line
from transfer.data.containers.archive_names import require_inside, require_once
from transfer.data.containers.container import StoredFile
from transfer.data.containers.packed_names import PackedNames

MOST_MEMBERS = 4_000_000
USUAL_EXTRA = 64  # bytes of extra fields, such as times, before the content of a file
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 1
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES"}


class _Member(NamedTuple):
    """What the directory of an archive says of a file."""

    offset: int
    packed: int
    size: int
    crc: int
    method: int
    encrypted: bool


_MEMBER = np.dtype(
    [*((name, "<u8") for name in _Member._fields[:3]), ("crc", "<u4"), ("method", "<u2"), ("encrypted", "?")]
)


class ZipArchive:
    """The files of a zip archive.

    Attributes
    ----------
    names : PackedNames
        The paths of the files, with slashes.
    notes : tuple of str
        Nothing: all files are read.

    Raises
    ------
    BadData
        When the file is no zip archive, or holds two files of one name, a path that leads out of it, members that
        overlap, or nothing but encrypted files.
    """

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        found = _directory(file)
        members = [(_name(entry), entry) for entry in found if not entry.is_dir() and not _is_link(entry)]
        require_inside(str(file), (name for name, _ in members))
        require_once(str(file), [name for name, _ in members])
        if members and all(entry.flag_bits & _ENCRYPTED for _, entry in members):
            raise BadData(f"{file} is encrypted; unpack it with its password, and pack it again without one.")
        self.names = PackedNames(name for name, _ in members)
        self.notes: tuple[str, ...] = ()
        rows = [
            _Member(e.header_offset, e.compress_size, e.file_size, e.CRC, e.compress_type, bool(e.flag_bits & 1))
            for _, e in members
        ]
        self._members = np.array(rows, _MEMBER)  # the tuples would take eight times the memory

    def __str__(self) -> str:
        return str(self._file)

    def name(self, position: int) -> str:
        """The path of the archive and of the file inside."""
        return f"{self._file}/{self.names[position]}"

    def size(self, position: int) -> int:
        """The number of bytes of the unpacked file."""
        return self._member(position).size

    def only(self, positions: np.ndarray) -> Self:
        """The archive with some of its files alone: it takes the memory of these."""
        part = copy.copy(self)
        part.names, part._members = self.names.select(positions), self._members[positions]
        return part

    def stamp(self, position: int) -> tuple[str, int] | None:
        """By what an unchanged member is recognised; see `transfer.data.containers.container.Container`."""
        return self._file.stamp_of(self.name(position))

    def read(self, position: int) -> bytes:
        """The bytes of a file; see `transfer.data.containers.container.Container`."""
        member = self._member(position)
        if member.encrypted:
            raise ValueError("it is encrypted")
        found = self._file.read(member.offset, self._span(position))
        if len(found) < _LOCAL_HEADER.size or found[:4] != b"PK\x03\x04":
            raise ValueError("the archive is damaged or cut off there")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(found[: _LOCAL_HEADER.size])
        start = _LOCAL_HEADER.size + name_length + extra_length
        packed = found[start : start + member.packed]
        if len(packed) < member.packed:  # what comes before it is longer than usual
            packed = self._file.read(member.offset + start, member.packed)
        if len(packed) < member.packed:
            raise ValueError("the archive is cut off there")
        content = _unpacked(packed, member)
        if zlib.crc32(content) != member.crc:
            raise ValueError("it is damaged (its checksum differs)")
        return content

    def announce(self, position: int) -> int:
        """Say that a file will be read soon; the number of bytes that are fetched for it."""
        return self._file.announce(self._member(position).offset, self._span(position))

    def _span(self, position: int) -> int:
        """The bytes to read for a file: its header, its name, what usually follows it, and the packed content."""
        name = self.names[position].encode("utf-8", "replace")
        return _LOCAL_HEADER.size + len(name) + USUAL_EXTRA + self._member(position).packed

    def _member(self, position: int) -> _Member:
        return _Member(*self._members[position].tolist())


def _directory(file: StoredFile) -> list[zipfile.ZipInfo]:
    try:
        with file.open() as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (BadData, Unreachable):
        raise
    except Exception as error:  # a damaged directory makes zipfile raise many types
        raise BadData(f"{file} is damaged, cut off, or no zip archive ({one_line(error)}); fetch it again.") from error
    if len(entries) > MOST_MEMBERS:
        raise BadData(f"{file} holds {len(entries):,} files, more than {MOST_MEMBERS:,}; divide it.")
    ends = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < ends:
            raise BadData(f"{file} has members that overlap, as a zip bomb has; such an archive is refused.")
        ends = entry.header_offset + entry.compress_size
    return entries


def _name(entry: zipfile.ZipInfo) -> str:
    name = entry.filename.replace("\\", "/") if entry.create_system == 0 else entry.filename
    return name.removeprefix("./")


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return entry.create_system == 3 and stat.S_ISLNK(entry.external_attr >> 16)


def _unpacked(packed: bytes, member: _Member) -> bytes:
    """The content of a member, of which never more is unpacked than it declares."""
    if member.method == zipfile.ZIP_STORED:
        return packed
    if member.method != zipfile.ZIP_DEFLATED:
        kind = _METHODS.get(member.method, f"method {member.method} of zip")
        raise ValueError(f"it is packed by {kind}, which is not read; pack it by deflate")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(packed, member.size + 1)
    except zlib.error as error:
        raise ValueError("it is damaged (it cannot be unpacked)") from error
    if len(content) > member.size:
        raise ValueError(f"it unpacks to more than the {member.size:,} bytes that it declares")
    return content
