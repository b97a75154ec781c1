"""Files of PyTorch: tensors are read, and nothing that a file says is run. The files here are assembled by hand."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.errors import BadData, LayertapError, UnsafeFile
from transfer.nets.files import torch_file
from transfer.nets.files.torch_file import read_tensors

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # as PyTorch writes them
VERSION = b"\x80\x02M\xe9\x03."
MACHINE = b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u."


class Raw(bytes):
    """Instructions of a pickle."""


def code(value: Any) -> bytes:
    """The instructions that put a value on the stack."""
    if isinstance(value, Raw):
        return value
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e"
    assert isinstance(value, dict)
    return b"ccollections\nOrderedDict\n)R(" + b"".join(code(part) for item in value.items() for part in item) + b"u"


def name(module: str, attribute: str) -> Raw:
    return Raw(f"c{module}\n{attribute}\n".encode())


def call(function: Raw, *arguments: Any) -> Raw:
    return Raw(function + code(arguments) + b"R")


def storage(key: str, count: int, kind: str = "FloatStorage", view: Any = None) -> Raw:
    return Raw(code(("storage", name("torch", kind), key, "cpu", count, view)) + b"Q")


def tensor(numbers: Raw, offset: int, shape: Any, strides: Any) -> Raw:
    return call(name("torch._utils", "_rebuild_tensor_v2"), numbers, offset, shape, strides, False, Raw(b"N"))


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + code(value) + b"."


def data(values: Any, dtype: str = "<f4", count: int | None = None) -> bytes:
    array = np.asarray(values, dtype)
    return struct.pack("<q", array.size if count is None else count) + array.tobytes()


SIX = tensor(storage("k", 6), 0, (2, 3), (3, 1))
SIX_NUMBERS = data(range(6))


class Marker:
    """What `os.system` would leave behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def write(tmp_path: Path, table: Any, keys: Any = ("k",), numbers: bytes = SIX_NUMBERS) -> Path:
    file = tmp_path / "net.pth"
    keys = pickled(list(keys)) if not isinstance(keys, bytes) else keys
    table = table if isinstance(table, bytes) and not isinstance(table, Raw) else pickled(table)
    file.write_bytes(MAGIC + VERSION + MACHINE + table + keys + numbers)
    return file


class TestReading:
    def test_tensors_have_the_numbers_shapes_and_types_of_the_file(self, tmp_path: Path) -> None:
        table = {
            "weight": SIX,
            "transposed": tensor(storage("k", 6), 0, (3, 2), (1, 3)),
            "part": tensor(storage("k", 6), 2, (2,), (3,)),
            "count": tensor(storage("n", 1, "LongStorage"), 0, (), ()),
            "none": tensor(storage("k", 6), 6, (0, 5), (5, 1)),
        }
        file = write(tmp_path, table, ("n", "k"), data([7], "<i8") + SIX_NUMBERS)
        read = read_tensors(file)
        six = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(read["weight"], six)
        np.testing.assert_array_equal(read["transposed"], six.T)
        np.testing.assert_array_equal(read["part"], [2, 5])
        assert (read["count"], read["count"].dtype, read["weight"].dtype) == (7, np.int64, np.float32)
        assert read["none"].shape == (0, 5)

    def test_tensors_can_be_changed_one_without_the_other(self, tmp_path: Path) -> None:
        read = read_tensors(write(tmp_path, {"a": SIX, "b": SIX}))
        read["a"][:] = 9
        assert read["b"].max() == 5

    def test_versions_of_modules_are_passed_over(self, tmp_path: Path) -> None:
        table = Raw(code({"a": SIX}) + code({"_metadata": {"": {"version": 1}}}) + b"b")
        assert list(read_tensors(write(tmp_path, table))) == ["a"]


class TestCode:
    def test_what_pickle_would_run_is_not_run(self, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        for protocol in range(6):
            file = write(tmp_path, pickle.dumps({"a": Marker(marker)}, protocol))
            with pytest.raises(UnsafeFile) as caught:
                read_tensors(file)
            assert "\n" not in str(caught.value)
            assert not marker.exists()
        pickle.loads(pickle.dumps(Marker(marker)))
        assert marker.exists(), "the pickle would have done it"

    @pytest.mark.parametrize("place", ["magic", "machine", "keys"])
    def test_nor_in_any_other_pickle_of_the_file(self, tmp_path: Path, place: str) -> None:
        marker, file = tmp_path / "marker", tmp_path / "net.pth"
        parts = {"magic": MAGIC, "version": VERSION, "machine": MACHINE, "table": pickled({"a": SIX})}
        parts |= {"keys": pickled(["k"]), "numbers": SIX_NUMBERS}
        parts[place] = pickle.dumps(Marker(marker), 2)
        file.write_bytes(b"".join(parts.values()))
        with pytest.raises(UnsafeFile, match=r"net\.pth would have to call posix\.system; only a table of"):
            read_tensors(file)
        assert not marker.exists()

    @pytest.mark.parametrize(
        "table",
        [
            {"a": call(name("builtins", "eval"), "1")},
            {"a": call(name("torch._utils", "_rebuild_parameter"), SIX, True)},
            {"a": call(name("torch", "FloatStorage"), 10**12)},
            {"a": call(name("collections", "OrderedDict"), [("a", 1)])},
            {"a": call(Raw(code("text")), 1)},
            {"a": tensor(storage("k", 6, "UntypedStorage"), 0, (2,), (1,))},
            {"a": tensor(storage("k", 6, view=("v", 0, 6)), 0, (2,), (1,))},
            {"a": tensor(Raw(code(("module", name("torch", "FloatStorage"), "k", "cpu", 6, None)) + b"Q"), 0, (), ())},
            {"a": Raw(b"Vtext\n")},
            {"a": Raw(b"cos\nsystem\n")},
            {"a": Raw(b"\x8c\x02os\x8c\x06system\x93")},
            {"a": Raw(b"(ios\nsystem\n")},
            {"a": Raw(b"\x82\x01")},
            {"a": 1},
            [SIX],
        ],
    )
    def test_all_but_a_table_of_tensors_is_refused(self, tmp_path: Path, table: Any) -> None:
        file = write(tmp_path, table)
        with pytest.raises(UnsafeFile, match="only a table of float32 and int64 tensors is read") as caught:
            read_tensors(file)
        assert "\n" not in str(caught.value)


class TestDamage:
    @pytest.mark.parametrize(
        ("table", "reason"),
        [
            (tensor(storage("k", 6), 0, (2, 4), (4, 1)), r"shape \(2, 4\) lies outside the 6 numbers"),
            (tensor(storage("k", 6), 1, (2, 3), (3, 1)), "lies outside"),
            (tensor(storage("k", 6), 0, (2, 3), (4, 1)), "lies outside"),
            (tensor(storage("k", 6), 0, (1000, 1000), (0, 0)), "lies outside"),
            (tensor(storage("k", 6), 7, (0,), (1,)), "lies outside"),
            (tensor(storage("k", 6), -1, (2,), (1,)), "no sensible shape"),
            (tensor(storage("k", 6), 0, (2,), (-1,)), "no sensible shape"),
            (tensor(storage("k", 6), 0, (2, 3), (3,)), "no sensible shape"),
            (tensor(storage("k", 6), 0, (1,) * 40, (1,) * 40), "no sensible shape"),
            (tensor(storage("k", 6), 0, (True,), (1,)), "no sensible shape"),
            (tensor(storage("k", 6), 0, [2], [1]), "a list where a tuple is expected"),
            (tensor(Raw(code(1)), 0, (2,), (1,)), "a int where a _Storage is expected"),
            (tensor(storage("k", 2**70), 0, (2,), (1,)), "declares 1,180,591,620,717,411,303,424 numbers, and 6"),
            (tensor(storage("k", -1), 0, (0,), (1,)), "no name, or no count"),
            (tensor(storage("k", 5), 0, (5,), (1,)), "declares 5 numbers, and 6"),
            (tensor(storage("other", 6), 0, (6,), (1,)), "are not those of its tensors"),
            (Raw(b"h\x07"), "refers to something that it has not built"),
            (Raw(b"00000"), "instruction POP"),
            (Raw(b"\x87"), "values where"),
            (Raw(b"u"), "damaged"),
            (Raw(b"X\xff\xff\xff\xffa"), "damaged"),
            (Raw(b"\xff"), "damaged"),
        ],
    )
    def test_what_does_not_hold_together_is_refused(self, tmp_path: Path, table: Raw, reason: str) -> None:
        with pytest.raises(LayertapError, match=reason) as caught:
            read_tensors(write(tmp_path, {"a": table}))
        assert "\n" not in str(caught.value)

    def test_numbers_described_in_two_ways_are_refused(self, tmp_path: Path) -> None:
        table = {"a": SIX, "b": tensor(storage("k", 3, "LongStorage"), 0, (3,), (1,))}
        with pytest.raises(BadData, match="describes the numbers k in two ways"):
            read_tensors(write(tmp_path, table))

    def test_a_count_that_differs_where_the_numbers_lie_is_refused(self, tmp_path: Path) -> None:
        for count in (5, 7, 2**62, -1):
            with pytest.raises(BadData, match="declares 6 numbers, and"):
                read_tensors(write(tmp_path, {"a": SIX}, numbers=data(range(6), count=count)))

    def test_a_file_cut_off_anywhere_is_refused(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"a": SIX})
        whole = file.read_bytes()
        for length in range(len(whole)):
            file.write_bytes(whole[:length])
            with pytest.raises(BadData, match="is damaged, or no file of PyTorch"):
                read_tensors(file)
        file.write_bytes(whole + b"\0")
        with pytest.raises(BadData, match="goes on after its last number"):
            read_tensors(file)

    def test_a_file_with_any_byte_changed_is_read_or_refused(self, tmp_path: Path, rng: np.random.Generator) -> None:
        file = write(tmp_path, {"a": SIX})
        whole, refused = file.read_bytes(), 0
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= int(rng.integers(1, 256))
            file.write_bytes(changed)
            try:
                read_tensors(file)
            except (BadData, UnsafeFile):
                refused += 1
        assert refused > len(whole) // 2

    def test_an_archive_is_refused_before_anything_of_it_is_unpacked(self, tmp_path: Path) -> None:
        file = tmp_path / "bomb.pth"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(2**24))
        with pytest.raises(BadData, match=r"is an archive as PyTorch 1\.6 and later write it"):
            read_tensors(file)

    def test_too_many_instructions_and_too_many_bytes_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write(tmp_path, {"a": SIX})
        monkeypatch.setattr(torch_file, "MOST_INSTRUCTIONS", 10)
        with pytest.raises(BadData, match="more than 10 instructions"):
            read_tensors(file)
        monkeypatch.setattr(torch_file, "LARGEST_FILE", 10)
        with pytest.raises(OSError, match="10"):
            read_tensors(file)

    def test_numbers_of_the_other_byte_order_are_refused(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"a": SIX})
        file.write_bytes(file.read_bytes().replace(b"little_endian\x88", b"little_endian\x89"))
        with pytest.raises(BadData, match="does not say that its numbers are little-endian"):
            read_tensors(file)
