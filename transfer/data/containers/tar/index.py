"""The index of a tar archive: where each file is in it, found in one pass over the headers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from transfer.data.containers.packed_names import PackedNames

BLOCK = 512
LARGEST_NAME = 2**20  # bytes of a long name or of an extended header
Read = Callable[[int, int], bytes]  # the bytes at an offset: as many as requested, fewer at the end


class TarMember(NamedTuple):
    """A regular file in an archive: its path, and the place of its content."""

    name: str
    offset: int
    size: int


@dataclass
class TarIndex:
    """The files of an archive.

    Attributes
    ----------
    names : PackedNames
    offsets, sizes : array of int
        The place of the content of each file.
    links : int
        The number of links, which are not read.
    problem : str
        Why the archive could not be read to its end, and where; empty where it could.
    """

    names: PackedNames = field(default_factory=PackedNames)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    links: int = 0
    problem: str = ""


def read_index(read: Read, size: int | None) -> TarIndex:
    """The index of an archive.

    Parameters
    ----------
    read : callable
    size : int or None
        The size of the archive, where it is known.
    """
    index = TarIndex()
    try:
        for kind, member in _entries(read):
            if kind in b"12":
                index.links += 1
            elif kind in b"0\0007":
                last = member.offset + member.size - 1
                if member.size and (last >= size if size is not None else not read(last, 1)):
                    raise ValueError(f"it is cut off inside {member.name} (byte {member.offset:,} on)")
                index.names.append(member.name.removeprefix("./"))
                index.offsets.append(member.offset)
                index.sizes.append(member.size)
    except (ValueError, OSError) as error:
        index.problem = str(error)
    return index


def _entries(read: Read) -> Iterator[tuple[int, TarMember]]:
    """The kind and the place of each entry.

    Raises
    ------
    ValueError
        When the archive is damaged or ends too early; the text names the position.
    """
    offset, long_name, extended = 0, "", dict[str, str]()
    while True:
        header = read(offset, BLOCK)
        if header.count(0) == BLOCK:
            return
        if len(header) < BLOCK:
            if header or not offset:
                raise ValueError(f"it is cut off at byte {offset + len(header):,}")
            raise ValueError(f"it ends at byte {offset:,} without the mark of its end, and may be cut off")
        name, size, kind = _header(header, offset)
        start = offset + BLOCK
        offset = start + -(-size // BLOCK) * BLOCK
        if kind in b"LKxg":
            content = _content(read, start, size)
            if kind == ord("L"):
                long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif kind == ord("x"):
                extended = _extended(content, start)
            continue
        if extended.get("size", "").isdecimal():
            size = int(extended["size"])
            offset = start + -(-size // BLOCK) * BLOCK
        yield kind, TarMember(extended.get("path") or long_name or name, start, size)
        long_name, extended = "", {}


def _header(header: bytes, offset: int) -> tuple[str, int, int]:
    """The name, the size and the kind of an entry."""
    checksum = sum(header) - sum(header[148:156]) + 8 * 32
    if _number(header[148:156]) != checksum:
        raise ValueError(f"it is damaged, or no tar archive, at byte {offset:,}")
    size = _number(header[124:136])
    if size is None or size < 0:
        raise ValueError(f"it is damaged at byte {offset:,}")
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    path = prefix + b"/" + name if prefix else name
    return path.decode("utf-8", "surrogateescape"), size, header[156]


def _number(field: bytes) -> int | None:
    """A number in octal digits, or in binary for large ones; None where it is neither."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F, *field[1:])), "big")
    digits = field.strip(b"\0 ")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _content(read: Read, start: int, size: int) -> bytes:
    content = read(start, size) if size <= LARGEST_NAME else b""
    if len(content) < size:
        raise ValueError(f"it is damaged or cut off in a header at byte {start:,}")
    return content


def _extended(content: bytes, start: int) -> dict[str, str]:
    """The records of an extended header: ``LENGTH KEY=VALUE``."""
    records = {}
    while content.strip(b"\0"):
        digits, space, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if not space or length <= len(digits) or length > len(content):
            raise ValueError(f"it is damaged in a header at byte {start:,}")
        key, _, value = content[len(digits) + 1 : length].rstrip(b"\n").partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[length:]
    return records
