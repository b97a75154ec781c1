"""Arrays that come in parts, of any range, axes first or last, in ``.npy`` files and in folders; and files that lie."""

from __future__ import annotations

import gzip
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice
from feature_cache.keys import digest_array
from transfer.data import datasets
from transfer.data.arrays import files
from transfer.data.images import read_pixels


@pytest.fixture
def gray(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (12, 10, 8), np.uint8)


def pixels(dataset: datasets.Dataset) -> np.ndarray:
    return np.stack([read_pixels(source)[1] for source in dataset.sources]).squeeze(-1)


def write_npz(file: Path, **arrays: Any) -> Path:
    np.savez_compressed(file, **arrays)
    return file


def write_npy(folder: Path, **arrays: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return folder


def write(folder: Path, kind: str, values: np.ndarray) -> Path:
    return write_npz(folder / "d.npz", X=values) if kind == "npz" else write_npy(folder, X=values) / "X.npy"


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


PARTS = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(8, 12)}
CONVENTIONS = [
    ("{}_images", "{}_labels"),
    ("x_{}", "y_{}"),
    ("X_{}", "Y_{}"),
    ("{}X", "{}Y"),
    ("{}_x", "{}_y"),
    ("x{}", "y{}"),
    ("{}_data", "{}_targets"),
    ("images_{}", "labels_{}"),
    ("{}_set_x", "{}_set_y"),
]


class TestParts:
    @pytest.mark.parametrize(("images", "labels"), CONVENTIONS)
    def test_the_training_part_is_read_and_the_others_by_name(
        self, tmp_path: Path, gray: np.ndarray, images: str, labels: str
    ) -> None:
        y = np.arange(12, dtype=np.uint8)[:, None]
        arrays = {images.format(part): gray[rows] for part, rows in PARTS.items()}
        arrays |= {labels.format(part): y[rows] for part, rows in PARTS.items()}
        file = str(write_npz(tmp_path / "d.npz", **arrays))
        dataset = datasets.load(file)
        assert np.array_equal(pixels(dataset), gray[:6])
        (note,) = dataset.notes
        assert f"{images.format('train')} with {labels.format('train')} is read; not read: " in note
        assert images.format("test") in note
        assert "`split` chooses another part (val, test)." in note
        for part, rows in PARTS.items():
            chosen = datasets.load(file, split={"val": "validation"}.get(part, part))
            assert np.array_equal(pixels(chosen), gray[rows])
            assert chosen.labels.tolist() == [str(number) for number in range(12)[rows]]
            assert chosen.notes == ()

    def test_a_part_that_is_not_there_is_refused(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = str(write_npz(tmp_path / "d.npz", x_train=gray, x_test=gray))
        with pytest.raises(InvalidChoice, match=r"has no split 'val'; allowed: train, test\."):
            datasets.load(file, split="val")
        with pytest.raises(InvalidChoice, match="has no splits, only one array of images"):
            datasets.load(str(write_npz(tmp_path / "e.npz", X=gray)), split="train")

    def test_images_without_a_part_are_the_training_ones_beside_others(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = str(write_npz(tmp_path / "d.npz", X=gray[:8], y=np.arange(8), X_test=gray[8:], y_test=np.arange(4)))
        for split in (None, "train"):
            assert np.array_equal(pixels(datasets.load(file, split=split)), gray[:8])
        assert datasets.load(file, split="test").labels.tolist() == ["0", "1", "2", "3"]

    def test_without_a_training_part_one_is_named(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = str(write_npz(tmp_path / "d.npz", x_val=gray[:2], x_test=gray[2:]))
        with pytest.raises(BadData, match=r"holds several parts \(val, test\); name one with `split`"):
            datasets.load(file)
        assert len(datasets.load(str(write_npz(tmp_path / "e.npz", x_test=gray, y_test=range(12))))) == 12

    def test_labels_of_another_part_are_never_taken(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = str(write_npz(tmp_path / "d.npz", x_train=gray, x_test=gray, y_test=range(12), y=range(3)))
        dataset = datasets.load(file)
        assert dataset.labels is None
        assert "not read: x_test, y_test, y" in dataset.notes[0]

    def test_pickled_arrays_beside_them_do_not_matter(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = write_npz(tmp_path / "d.npz", X=gray, names=np.array([{}, None]))
        assert len(datasets.load(str(file))) == 12


class TestAxes:
    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("kind", ["npz", "npy"])
    def test_channels_first_are_the_same_images_and_that_is_noted(
        self, tmp_path: Path, rng: np.random.Generator, channels: int, kind: str
    ) -> None:
        last = rng.integers(0, 256, (5, 10, 8, channels), np.uint8)
        first = last.transpose(0, 3, 1, 2)
        file = write(tmp_path, kind, first)
        dataset = datasets.load(str(file))
        assert f"has the shape (5, {channels}, 10, 8), which is read as channels first" in dataset.notes[0]
        expected = [image.squeeze(-1) if channels == 1 else image for image in last]
        assert [source.load()[0] for source in dataset.sources] == [digest_array(image) for image in expected]
        for source, image in zip(dataset.sources, last, strict=True):
            if channels != 4:  # which is laid over white
                assert np.array_equal(read_pixels(source)[1], image)


class TestRange:
    @pytest.mark.parametrize(
        ("dtype", "low", "high"),
        [
            ("float32", -1, 1),
            ("float64", 0, 255),
            ("float16", -2, 2),
            ("int16", -1000, 3000),
            ("int64", 0, 255),
            ("uint16", 0, 4095),
            (">u2", 0, 4095),
            ("int8", -128, 127),
            ("float64", 0, 1e-300),
        ],
    )
    @pytest.mark.parametrize("kind", ["npz", "npy"])
    def test_numbers_within_the_range_are_mapped_linearly(
        self, tmp_path: Path, dtype: str, low: float, high: float, kind: str
    ) -> None:
        values = np.linspace(low, high, 2 * 10 * 8).reshape(2, 10, 8)
        values = (np.rint(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)
        file = write(tmp_path, kind, values)
        found = pixels(datasets.load(str(file), value_range=(low, high)))
        exact = (values.astype(float) - low) / (high - low) * 255
        assert np.abs(found - exact).max() <= 0.5 + 1e-9
        assert (found.min(), found.max()) == (0, 255)

    @pytest.mark.parametrize("bounds", [(0, 0.99), (-0.5, 0.5), (0.1, 2)])
    def test_numbers_beyond_it_are_named_and_never_cut_off(self, tmp_path: Path, bounds: tuple[float, float]) -> None:
        file = write_npz(tmp_path / "d.npz", X=np.linspace(0, 1, 160).reshape(2, 10, 8))
        with pytest.raises(
            BadData, match="numbers from 0 to 1, beyond `value_range=.*give a range that holds them all"
        ):
            datasets.load(str(file), value_range=bounds)

    @pytest.mark.parametrize("bounds", [(-1e308, 1e308), (0, 5e-324)])
    def test_a_range_that_cannot_be_divided_is_refused(self, tmp_path: Path, bounds: tuple[float, float]) -> None:
        file = write_npz(tmp_path / "d.npz", X=np.zeros((2, 10, 8)))
        with pytest.raises(InvalidChoice, match="too small or too large"):
            datasets.load(str(file), value_range=bounds)

    @pytest.mark.parametrize("dtype", [np.uint8, bool])
    def test_where_the_dtype_says_it_there_is_no_other(self, tmp_path: Path, gray: np.ndarray, dtype: type) -> None:
        file = write_npz(tmp_path / "d.npz", X=gray.astype(dtype))
        with pytest.raises(InvalidChoice, match="whose range is known; leave out `value_range`"):
            datasets.load(str(file), value_range=(0, 255))
        (tmp_path / "my-images-idx3-ubyte").write_bytes(idx(gray))
        with pytest.raises(InvalidChoice, match="leave out `value_range`"):
            datasets.load(str(tmp_path / "my-images-idx3-ubyte"), value_range=(0, 255))


class TestNpy:
    @pytest.mark.parametrize(
        ("images", "labels"),
        [
            ("X", "y"),
            ("images", "labels"),
            ("x_train", "y_train"),
            ("train_images", "train_labels"),
            ("cells", "cells_labels"),
            ("my cells", "my cells-labels"),
            ("data", "target"),
        ],
    )
    def test_labels_are_those_of_the_file_beside_it(
        self, tmp_path: Path, gray: np.ndarray, images: str, labels: str
    ) -> None:
        write_npy(tmp_path, **{images: gray, labels: np.arange(12) % 3, "other_labels": range(12), "x_test": gray[:2]})
        dataset = datasets.load(str(tmp_path / f"{images}.npy"))
        assert np.array_equal(pixels(dataset), gray)
        assert dataset.labels.tolist() == ["0", "1", "2"] * 4

    @pytest.mark.parametrize("name", ["labels.txt", "y.csv", "X_labels.txt"])
    @pytest.mark.parametrize("heading", ["", "label\n"])
    def test_labels_may_be_lines_of_text(self, tmp_path: Path, gray: np.ndarray, name: str, heading: str) -> None:
        images = "X.npy" if name != "X_labels.txt" else "X_images.npy"
        np.save(tmp_path / images, gray)
        (tmp_path / name).write_text(heading + "ant\nbee fly\n" * 6)
        assert datasets.load(str(tmp_path / images)).labels.tolist() == ["ant", "bee fly"] * 6

    def test_a_list_of_the_classes_is_not_their_labels(self, tmp_path: Path, gray: np.ndarray) -> None:
        write_npy(tmp_path, X=gray)
        (tmp_path / "labels.txt").write_text("ant\nbee\n")
        dataset = datasets.load(str(tmp_path / "X.npy"))
        assert dataset.labels is None
        assert "labels.txt has 2 lines for 12 images and is not read as their labels." in dataset.notes[0]

    def test_labels_of_other_images_are_refused(self, tmp_path: Path, gray: np.ndarray) -> None:
        write_npy(tmp_path, X=gray, y=np.zeros(11, int))
        with pytest.raises(BadData, match=r"holds 12 images, and y\.npy beside it 11 labels"):
            datasets.load(str(tmp_path / "X.npy"))

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_nothing_but_the_images_in_use_is_held_in_memory(self, tmp_path: Path, order: str) -> None:
        values = np.asarray(np.arange(200 * 100 * 100).reshape(200, 100, 100) % 251, np.uint8, order=order)
        write_npy(tmp_path, X=values)
        tracemalloc.start()
        try:
            dataset = datasets.load(str(tmp_path / "X.npy"))
            sent = pickle.dumps(dataset)
            assert np.array_equal(read_pixels(dataset.sources[7])[1][..., 0], values[7])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 400_000
        assert len(sent) < 100_000
        again = pickle.loads(sent)  # noqa: S301
        assert again.sources[199].load()[0] == digest_array(np.ascontiguousarray(values[199]))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"cannot read .*X\.npy as an \.npy file"),
            (b"\x93NUMPY\x01\x00", "cannot read"),
            (b"\x80\x04N.", "it does not begin as one does"),
        ],
    )
    def test_damaged_files_are_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "X.npy").write_bytes(content)
        with pytest.raises(BadData, match=message):
            datasets.load(str(tmp_path / "X.npy"))

    def test_pickled_short_and_long_files_are_refused(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = tmp_path / "X.npy"
        np.save(file, np.array([{}, {}]))
        with pytest.raises(BadData, match="it holds pickled Python objects, which are never read"):
            datasets.load(str(file))
        np.save(file, gray)
        content = file.read_bytes()
        for changed in (content[:-1], content + b"x"):
            file.write_bytes(changed)
            with pytest.raises(BadData, match=r"it is not as long as its shape \(12, 10, 8\) says"):
                datasets.load(str(file))


class TestFolders:
    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize("names", [("train", "t10k"), ("train", "test"), ("digits-train", "digits-test")])
    def test_a_folder_of_idx_files_is_its_training_part_or_the_named_one(
        self, tmp_path: Path, gray: np.ndarray, names: tuple[str, str], zipped: bool
    ) -> None:
        labels = np.arange(12, dtype=np.uint8) % 5
        folder = tmp_path / "MNIST" / "raw"
        folder.mkdir(parents=True)
        for name, rows in zip(names, (slice(0, 8), slice(8, 12)), strict=True):
            for kind, values in (("images-idx3", gray[rows]), ("labels-idx1", labels[rows])):
                content = idx(values)
                (folder / f"{name}-{kind}-ubyte").write_bytes(content)
                if zipped:
                    (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
        for data in (tmp_path, folder):
            for split, rows in ((None, slice(0, 8)), ("train", slice(0, 8)), ("test", slice(8, 12))):
                dataset = datasets.load(str(data), split=split)
                assert np.array_equal(pixels(dataset), gray[rows])
                assert dataset.labels.tolist() == labels[rows].astype(str).tolist()
                assert bool(dataset.notes) == (split is None)
        assert f"not read: {names[1]}-images-idx3-ubyte" in datasets.load(str(folder)).notes[0]
        with pytest.raises(InvalidChoice, match="has no split 'val'"):
            datasets.load(str(tmp_path), split="val")

    def test_several_training_parts_are_never_mixed(self, tmp_path: Path, gray: np.ndarray) -> None:
        for name in ("letters-train", "digits-train", "digits-test"):
            (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(gray))
        with pytest.raises(BadData, match=r"several parts \(digits_train, letters_train, digits_test\); name one"):
            datasets.load(str(tmp_path))
        with pytest.raises(InvalidChoice, match="several splits that 'train' may mean"):
            datasets.load(str(tmp_path), split="train")
        assert len(datasets.load(str(tmp_path), split="letters_train")) == 12

    def test_a_folder_of_npy_files(self, tmp_path: Path, gray: np.ndarray) -> None:
        folder = write_npy(tmp_path / "d", x_train=gray[:8], y_train=range(8), x_test=gray[8:], y_test=range(4))
        assert datasets.load(str(folder)).labels.tolist() == [str(number) for number in range(8)]
        assert np.array_equal(pixels(datasets.load(str(folder), split="test")), gray[8:])
        alone = write_npy(tmp_path / "e", cells=gray, cells_labels=range(12))
        assert len(set(datasets.load(str(alone)).labels)) == 12

    def test_arrays_that_are_not_read_are_named(self, tmp_path: Path, gray: np.ndarray) -> None:
        dataset = datasets.load(str(write_npy(tmp_path / "d", X=gray, y=range(12), embeddings=np.eye(12))))
        assert len(set(dataset.labels)) == 12
        assert dataset.notes[0].endswith("X with y is read; not read: embeddings.")

    def test_split_folders_may_hold_arrays(self, tmp_path: Path, gray: np.ndarray) -> None:
        for part in ("train", "test"):
            write_npy(tmp_path / part, X=gray[PARTS[part]], y=range(len(gray[PARTS[part]])))
        with pytest.raises(BadData, match="divided into splits"):
            datasets.load(str(tmp_path))
        assert np.array_equal(pixels(datasets.load(str(tmp_path), split="test")), gray[8:])

    def test_a_folder_of_npz_files(self, tmp_path: Path, gray: np.ndarray) -> None:
        write_npz(tmp_path / "only.npz", x_train=gray[:8], x_test=gray[8:])
        assert len(datasets.load(str(tmp_path))) == 8
        assert len(datasets.load(str(tmp_path), split="test")) == 4
        (tmp_path / "only.npz").unlink()
        write_npz(tmp_path / "train.npz", X=gray[:8])
        write_npz(tmp_path / "test.npz", X=gray[8:])
        dataset = datasets.load(str(tmp_path))
        assert len(dataset) == 8
        assert "train.npz is read; not read: test.npz" in dataset.notes[0]
        assert len(datasets.load(str(tmp_path), split="test")) == 4

    def test_images_go_before_arrays_that_lie_beside_them(self, class_folder: Path, gray: np.ndarray) -> None:
        write_npy(class_folder, X=gray)
        dataset = datasets.load(str(class_folder))
        assert len(dataset) == 8
        assert "1 (1 .npy)" in dataset.notes[0]


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class TestUntrusted:
    def test_a_shape_that_the_archive_does_not_hold_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("X.npy", npy_header((10**6, 10**6)) + b"x" * 99)
        with pytest.raises(BadData, match=r"X is not as long as its shape \(1000000, 1000000\) says"):
            datasets.load(str(tmp_path / "d.npz"))

    def test_a_small_archive_of_much_is_refused_before_it_is_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "_LARGE", 2**24)
        write_npz(tmp_path / "d.npz", X=np.zeros((2, 2**12, 2**12), np.uint8))
        tracemalloc.start()
        try:
            with pytest.raises(BadData, match=r"declares 0\.0 GB in .* bytes, more than 100 times its own size"):
                datasets.load(str(tmp_path / "d.npz"))
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()

    def test_a_gzip_file_that_declares_too_much_is_refused_before_it_is_held(self, tmp_path: Path) -> None:
        file = tmp_path / "my-images-idx3-ubyte.gz"
        head = bytes((0, 0, 8, 3)) + np.array((2**20, 2**10, 2**10), ">u4").tobytes()
        for content in (gzip.compress(head + b"x" * 99), gzip.compress(head) + bytes(2**31 // 2**10)):
            file.write_bytes(content)
            tracemalloc.start()
            try:
                with pytest.raises(BadData, match="its length is not what its first bytes say|more than 100 times"):
                    datasets.load(str(file))
                assert tracemalloc.get_traced_memory()[1] < 2**20
            finally:
                tracemalloc.stop()

    def test_what_does_not_fit_into_memory_is_refused_with_a_way_out(
        self, tmp_path: Path, gray: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "host_memory", lambda: 100)
        with pytest.raises(BadData, match=r"needs 0\.0 GB of memory, .* save the arrays as \.npy files"):
            datasets.load(str(write_npz(tmp_path / "d.npz", X=gray)))
        assert len(datasets.load(str(write_npy(tmp_path, X=gray) / "X.npy"))) == 12

    def test_a_text_file_without_end_is_not_read(self, tmp_path: Path, gray: np.ndarray) -> None:
        np.save(tmp_path / "X.npy", gray)
        with (tmp_path / "labels.txt").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(BadData, match=r"cannot read .*labels\.txt as a file of one label a line: it is too large"):
            datasets.load(str(tmp_path / "X.npy"))
