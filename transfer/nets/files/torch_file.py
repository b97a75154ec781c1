"""Reading the tensors of a file that PyTorch saved, without PyTorch, and without running anything that it says.

Such a file is a pickle: a program for a small stack machine that can call any function of Python. Here the program is
interpreted by a machine of our own that knows the instructions and the three names that a table of tensors is written
with, and builds nothing but dicts, tuples, texts and numbers. Everything else is refused, before it has any effect.

The format is the one of ``torch.save`` before version 1.6 (``_legacy_save`` in ``torch/serialization.py``): pickles of
a magic number, a version, facts about the machine, the object and the keys of its storages; then the storages.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadData, UnsafeFile, printable
from feature_cache.files.checked import open_regular

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
LARGEST_FILE = 2**30  # bytes
MOST_INSTRUCTIONS = 2**20  # of a pickle; a net of 300 tensors has 10,696
MOST_AXES = 8  # of a tensor
_DTYPES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_DICT, _REBUILD = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"


@dataclass(frozen=True)
class _Name:
    """One of the names that a file may mention; it stands for itself and cannot be called."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Numbers that lie at the end of the file."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """The tensors of a table that ``torch.save(model.state_dict(), file)`` wrote before PyTorch 1.6.

    Returns
    -------
    dict of str to ndarray
        float32 or int64, of the shapes that the file gives them.

    Raises
    ------
    UnsafeFile
        When the file holds anything but such a table, so that reading it would mean to run what it says.
    BadData
        When it is of another format, truncated, or does not hold the numbers that it declares.
    OSError
        When it cannot be opened, is no regular file, or has more than `LARGEST_FILE` bytes.
    """
    with open_regular(file, LARGEST_FILE) as stream:
        content = stream.read()
    if content.startswith(b"PK"):
        raise BadData(f"{file} is an archive as PyTorch 1.6 and later write it; only the format before that is read.")
    try:
        return _read(io.BytesIO(content), content)
    except UnsafeFile as error:
        raise UnsafeFile(f"{file} {error}; only a table of float32 and int64 tensors is read.") from None
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise BadData(f"{file} is damaged, or no file of PyTorch: {error}.") from None


def _read(stream: io.BytesIO, content: bytes) -> dict[str, np.ndarray]:
    if _run(stream) != MAGIC or _run(stream) != VERSION:
        raise ValueError("it does not begin as such files do")
    machine = _run(stream)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it does not say that its numbers are little-endian")
    storages: dict[str, _Storage] = {}
    table = _run(stream, storages)
    if not isinstance(table, dict) or not all(isinstance(tensor, _Tensor) for tensor in table.values()):
        raise UnsafeFile("holds something else than a table of tensors")
    keys = _run(stream)
    if not isinstance(keys, list) or len(keys) != len(storages) or {str(key) for key in keys} != set(storages):
        raise ValueError("the numbers that it lists are not those of its tensors")
    numbers = {key: _numbers(stream, content, storages[key]) for key in map(str, keys)}
    if stream.tell() != len(content):
        raise ValueError("it goes on after its last number")
    return {name: _array(tensor, numbers[tensor.storage.key]) for name, tensor in table.items()}


def _numbers(stream: io.BytesIO, content: bytes, storage: _Storage) -> np.ndarray:
    """The numbers of the storage that comes next."""
    count, start = int.from_bytes(stream.read(8), "little"), stream.tell()
    if count != storage.count:
        raise ValueError(f"it declares {storage.count:,} numbers, and {count:,} where they lie")
    end = stream.seek(start + count * storage.dtype.itemsize)
    if end > len(content):
        raise ValueError("it ends before its last number")
    return np.frombuffer(content[start:end], storage.dtype)


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """A copy of what a tensor views; `_tensor` has checked that it lies in its storage."""
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")


def _run(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """What the pickle that comes next in the stream builds; the storages that it mentions are noted in `storages`."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}  # by number

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if number == MOST_INSTRUCTIONS:
            raise ValueError(f"it is a pickle of more than {MOST_INSTRUCTIONS:,} instructions")
        match code.name:
            case "STOP":
                (result,) = stack
                return result
            case "PROTO":
                pass
            case "MARK":
                marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[code.name]())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [_exactly(tuple(stack[-count:]), count)]
            case "APPENDS":
                items = since_mark()
                _of_type(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            case "SETITEMS":
                items = since_mark()
                _set(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                if argument not in memo:
                    raise ValueError("it refers to something that it has not built")
                stack.append(memo[argument])
            case "GLOBAL":
                if argument not in (_DICT, _REBUILD, *_DTYPES):
                    raise UnsafeFile(f"would have to call {printable(argument)[:80].replace(' ', '.')}")
                stack.append(_Name(argument))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case "BUILD":  # the versions of its modules, which a table of tensors carries as an attribute
                stack.pop()
                _of_type(stack[-1], dict)
            case "BINPERSID":
                stack.append(_storage(stack.pop(), storages))
            case _:
                raise UnsafeFile(f"holds the instruction {code.name} of a pickle")
    raise ValueError("it ends within a pickle")


def _call(function: Any, arguments: Any) -> Any:
    """What stands for a call: an empty dict, or a tensor."""
    if function == _Name(_DICT) and arguments == ():
        return {}
    if function == _Name(_REBUILD):
        return _tensor(*_exactly(_of_type(arguments, tuple), 6))
    raise UnsafeFile(f"would have to call {getattr(function, 'name', 'something')} in another way than a tensor does")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """A tensor, of which no number lies outside its storage."""
    _of_type(storage, _Storage)
    _of_type(shape, tuple)
    _of_type(strides, tuple)
    if not len(shape) == len(strides) <= MOST_AXES or not all(
        type(one) is int and one >= 0 for one in (offset, *shape, *strides)
    ):
        raise ValueError("a tensor has no sensible shape")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    size = math.prod(shape)
    if size > storage.count or offset > storage.count or (size and last >= storage.count):
        raise ValueError(f"a tensor of shape {shape} lies outside the {storage.count:,} numbers that it is a part of")
    return _Tensor(storage, offset, shape, strides)


def _storage(described: Any, storages: dict[str, _Storage] | None) -> _Storage:
    dtype: Any
    kind, name, key, _, count, view = _exactly(_of_type(described, tuple), 6)
    dtype = _DTYPES.get(name.name) if isinstance(name, _Name) else None
    if storages is None or kind != "storage" or dtype is None or view is not None:
        raise UnsafeFile("refers to something else than the numbers of a tensor")
    if type(key) is not str or type(count) is not int or count < 0:
        raise ValueError("the numbers of a tensor have no name, or no count")
    storage = _Storage(key, dtype, count)
    if storages.setdefault(key, storage) != storage:
        raise ValueError(f"it describes the numbers {printable(key)[:80]} in two ways")
    return storage


def _set(target: Any, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        _of_type(target, dict)[_of_type(key, str)] = value


def _of_type(value: Any, kind: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"it has a {type(value).__name__} where a {kind.__name__} is expected")
    return value


def _exactly(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    if len(values) != count:
        raise ValueError(f"it has {len(values)} values where there should be {count}")
    return values
