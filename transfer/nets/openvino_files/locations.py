"""Which other files an ONNX file takes weights from, read before any library opens the file.

An ONNX file is a message of protocol buffers (https://protobuf.dev/programming-guides/encoding). Tensors that lie in
other files are found by walking through all messages that can hold one; nothing else is decoded, and weights are
skipped. The package ``onnx`` would copy all weights into memory for that, and it is not needed to compute features.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import IO

# Kinds of messages in onnx.proto, and the messages inside each by the numbers of their fields.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {13: "entry"},
}  # fmt: skip
_GRAPH, _KEY, _VALUE = 7, 1, 2  # numbers of fields: the graph of a model, and what an entry consists of
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # ways in which a field is written
_LONGEST_VARINT = 10  # bytes


def external_locations(stream: IO[bytes]) -> list[str]:
    """The locations of all files that an ONNX file takes tensors from, as it writes them, in order and without repeats.

    Parameters
    ----------
    stream : file
        An open file of at least one byte.

    Raises
    ------
    ValueError
        When the file is not of that kind, or is cut short.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not any(number == _GRAPH and way == _LENGTH for number, way, _, _ in _fields(content, 0, len(content))):
            raise ValueError("it holds no graph")
        return sorted(set(_locations(content)))


def _locations(content: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "entry":
            entry = {
                number: (first, last) for number, way, first, last in _fields(content, start, end) if way == _LENGTH
            }
            key, value = (content[slice(*entry.get(number, (0, 0)))] for number in (_KEY, _VALUE))
            if key == b"location":
                yield value.decode("utf-8")
            continue
        inside = _INSIDE[kind]
        for number, way, first, last in _fields(content, start, end):
            if way == _LENGTH and number in inside:
                waiting.append((inside[number], first, last))


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, way of writing, and where the value starts and ends."""
    while at < end:
        tag, at = _varint(content, at, end)
        number, way = tag >> 3, tag & 7
        first = at
        if way == _VARINT:
            _, at = _varint(content, at, end)
        elif way == _LENGTH:
            length, first = _varint(content, at, end)
            at = first + length
        elif way in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if way == _EIGHT_BYTES else 4
        else:
            raise ValueError("a field is written in no known way")
        if at > end or number == 0:
            raise ValueError("a field goes beyond its end")
        yield number, way, first, at


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A whole number, and where it ends."""
    value = 0
    for position, byte in enumerate(content[at : min(end, at + _LONGEST_VARINT)]):
        value |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError("a number goes beyond its end")
