"""Images in ``.npz`` and IDX files, and in RAMP kits: what they hold, and what is refused in one line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData
from transfer.data import datasets
from transfer.data.images import read_pixels
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest


@pytest.fixture
def gray(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (12, 10, 8), np.uint8)


def pixels(dataset: datasets.Dataset) -> np.ndarray:
    return np.stack([read_pixels(source)[1] for source in dataset.sources])


def write_npz(file: Path, **arrays: Any) -> Path:
    np.savez_compressed(file, **arrays)
    return file


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


class TestNpz:
    @pytest.mark.parametrize(("images", "labels"), [("X", "y"), ("images", "labels"), ("x_train", "y_train")])
    def test_images_and_labels_go_by_their_usual_names(
        self, tmp_path: Path, gray: np.ndarray, images: str, labels: str
    ) -> None:
        file = write_npz(tmp_path / "a b.npz", **{images: gray, labels: np.arange(12) % 3, "x_test": gray[:2]})
        dataset = datasets.load(str(file))
        assert np.array_equal(pixels(dataset)[..., 0], gray)
        assert dataset.labels.tolist() == ["0", "1", "2"] * 4
        assert dataset.ids == tuple(f"{number:02d}" for number in range(12))

    def test_labels_are_optional(self, tmp_path: Path, gray: np.ndarray) -> None:
        assert datasets.load(str(write_npz(tmp_path / "d.npz", X=gray))).labels is None

    @pytest.mark.parametrize(
        "labels",
        [[["a"], ["é"]], [b"a", "é".encode()], np.array(["a", "é"])],
        ids=["a column", "bytes", "texts"],
    )
    def test_labels_may_be_texts(self, tmp_path: Path, gray: np.ndarray, labels: Any) -> None:
        assert datasets.load(str(write_npz(tmp_path / "d.npz", X=gray[:2], y=labels))).labels.tolist() == ["a", "é"]

    def test_whole_numbers_may_be_floats(self, tmp_path: Path, gray: np.ndarray) -> None:
        assert datasets.load(str(write_npz(tmp_path / "d.npz", X=gray[:2], y=[3.0, -1.0]))).labels.tolist() == [
            "3",
            "-1",
        ]

    @pytest.mark.parametrize(
        "convert",
        [
            lambda gray: gray[..., None],
            lambda gray: gray.astype(np.uint16) * 257,
            lambda gray: (gray.astype(np.uint16) * 257).astype(">u2"),
            lambda gray: gray / 255,
            lambda gray: (gray / 255).astype(np.float32),
        ],
        ids=["a channel", "uint16", "big-endian", "float64", "float32"],
    )
    def test_shades_become_the_same_uint8(self, tmp_path: Path, gray: np.ndarray, convert: Callable) -> None:
        dataset = datasets.load(str(write_npz(tmp_path / "d.npz", X=convert(gray))))
        assert np.array_equal(pixels(dataset)[..., 0], gray)

    def test_booleans_are_black_and_white(self, tmp_path: Path, gray: np.ndarray) -> None:
        dataset = datasets.load(str(write_npz(tmp_path / "d.npz", X=gray > 99)))
        assert np.array_equal(pixels(dataset)[..., 0], np.where(gray > 99, 255, 0))

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            (
                {"arr_0": np.zeros((2, 4, 5), np.uint8), "arr_1": [1, 2]},
                r"holds arr_0 \(2, 4, 5\), arr_1 \(2,\), and no images by their names; call them X or images",
            ),
            ({"Y": np.zeros((2, 4, 5), np.uint8)}, r"holds Y \(2, 4, 5\), and no images by their names"),
            ({}, "holds nothing, and no images"),
            ({"X": np.zeros((0, 4, 5), np.uint8)}, "holds 0 images in X; there must be at least 1."),
            ({"X": np.zeros((2, 0, 5), np.uint8)}, r"X of .* has the shape \(2, 0, 5\); images are of shape"),
            (
                {"X": np.zeros((20, 20), np.uint8)},
                r"has the shape \(20, 20\); images are of shape \(n, height, width\)",
            ),
            ({"X": np.zeros((20, 20, 3), np.uint8)}, r"has the shape \(20, 20, 3\); images are of shape"),
            ({"X": np.zeros((2, 5, 9, 9), np.uint8)}, r"has the shape \(2, 5, 9, 9\); .* with 1, 3 or 4 channels"),
            ({"X": np.zeros((2, 3, 9, 3), np.uint8)}, r"has the shape \(2, 3, 9, 3\), which may be \(n, height"),
            ({"X": np.zeros((2, 9, 9), np.int64)}, "X of .* holds int64 from 0 to 0, .* name both, for"),
            (
                {"X": np.full((2, 9, 9), 254.0)},
                "X of .* holds floats from 254 to 254, .* for instance `value_range=.0, 255.`",
            ),
            (
                {"X": np.linspace(-1, 1, 98).reshape(2, 7, 7)},
                "holds floats from -1 to 1, .* for instance `value_range=.-1, 1.`",
            ),
            ({"X": np.full((2, 9, 9), 1j)}, "holds complex128, which are no numbers that could be shades"),
            ({"X": np.full((2, 9, 9), np.nan)}, "holds NaN or infinity"),
            ({"X": np.array([{}, {}])}, "X of .* holds pickled Python objects, which are never read; save"),
            ({"X": np.zeros((2, 9, 9), np.uint8), "y": [1]}, r"y of .* has the shape \(1,\), and there are 2 images"),
            ({"X": np.zeros((2, 9, 9), np.uint8), "y": np.eye(2)}, "one label for each, not probabilities or columns"),
            ({"X": np.zeros((2, 9, 9), np.uint8), "y": [0.5, 1]}, "holds float64 that are no whole numbers"),
            ({"X": np.zeros((2, 9, 9), np.uint8), "y": ["a", ""]}, "is empty for image 1; give every image a label"),
        ],
    )
    def test_what_is_no_data_set_is_refused_in_one_line(
        self, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
    ) -> None:
        file = write_npz(tmp_path / "bad.npz", **arrays)
        with pytest.raises(BadData, match=message) as caught:
            datasets.load(str(file))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", b"\x93NUMPY"])
    def test_damaged_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(BadData, match=r"cannot read .*bad\.npz as an \.npz file"):
            datasets.load(str(tmp_path / "bad.npz"))

    def test_a_flipped_bit_is_noticed(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = write_npz(tmp_path / "d.npz", X=gray)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 16
        file.write_bytes(content)
        with pytest.raises(BadData, match="cannot read"):
            datasets.load(str(file))


def test_files_that_are_data_sets_are_known_by_their_names() -> None:
    for name in ("a.csv", "a.TSV", "b.npz", "x-images-idx3-ubyte", "x-images.idx3-ubyte.GZ"):
        assert datasets.is_dataset(Path(name)), name
    for name in ("a.png", "npz", "idx3.jpg", "images-idx3-ubyte.png", "a.npz.jpg"):
        assert not datasets.is_dataset(Path(name)), name


class TestIdx:
    @pytest.mark.parametrize("images", ["train-images-idx3-ubyte", "t10k-images.idx3-ubyte"])
    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize("labels_zipped", [False, True])
    def test_images_come_with_the_labels_beside_them(
        self, tmp_path: Path, gray: np.ndarray, images: str, zipped: bool, labels_zipped: bool
    ) -> None:
        labels = np.arange(12, dtype=np.uint8) % 5
        for name, values, small in ((images, gray, zipped), (_labels_of(images), labels, labels_zipped)):
            content = gzip.compress(idx(values)) if small else idx(values)
            (tmp_path / (name + ".gz" * small)).write_bytes(content)
        dataset = datasets.load(str(tmp_path / (images + ".gz" * zipped)))
        assert np.array_equal(pixels(dataset)[..., 0], gray)
        assert dataset.labels.tolist() == labels.astype(str).tolist()

    def test_labels_are_optional(self, tmp_path: Path, gray: np.ndarray) -> None:
        (tmp_path / "my-images-idx3-ubyte").write_bytes(idx(gray))
        assert datasets.load(str(tmp_path / "my-images-idx3-ubyte")).labels is None

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "does not begin as an IDX file of 3 axes"),
            (idx(np.zeros(5, np.uint8)), "does not begin as an IDX file of 3 axes"),
            (idx(np.zeros((2, 4, 4), np.uint8))[:-1], "its length is not what its first bytes say"),
            (idx(np.zeros((2, 4, 4), np.uint8)) + b"x", "its length is not what its first bytes say"),
            (idx(np.zeros((2, 4, 4), np.uint8))[:8], "its length is not what its first bytes say"),
            (bytes((0, 0, 8, 3)) + b"\xff" * 12 + b"x" * 99, "cannot read .* as an IDX file"),
            (idx(np.zeros((0, 4, 4), np.uint8)), "holds 0 images"),
            (idx(np.zeros((2, 0, 4), np.uint8)), "images of 0 x 4 pixels"),
        ],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_damaged_files_are_refused(self, tmp_path: Path, content: bytes, message: str, zipped: bool) -> None:
        file = tmp_path / ("my-images-idx3-ubyte" + ".gz" * zipped)
        file.write_bytes(gzip.compress(content) if zipped else content)
        with pytest.raises(BadData, match=message):
            datasets.load(str(file))

    def test_a_damaged_archive_is_refused(self, tmp_path: Path, gray: np.ndarray) -> None:
        file = tmp_path / "my-images-idx3-ubyte.gz"
        file.write_bytes(gzip.compress(idx(gray))[:-30])
        with pytest.raises(BadData, match="cannot read .* as an IDX file"):
            datasets.load(str(file))

    def test_labels_of_other_images_are_refused(self, tmp_path: Path, gray: np.ndarray) -> None:
        (tmp_path / "my-images-idx3-ubyte").write_bytes(idx(gray))
        (tmp_path / "my-labels-idx1-ubyte").write_bytes(idx(np.zeros(11, np.uint8)))
        with pytest.raises(BadData, match="holds 12 images, and my-labels-idx1-ubyte beside it 11 labels"):
            datasets.load(str(tmp_path / "my-images-idx3-ubyte"))

    def test_the_file_of_the_labels_is_not_the_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "my-labels-idx1-ubyte").write_bytes(idx(np.zeros(11, np.uint8)))
        with pytest.raises(BadData, match="not named as images; name the file of the images"):
            datasets.load(str(tmp_path / "my-labels-idx1-ubyte"))


def _labels_of(images: str) -> str:
    return re.sub(r"images(.)idx3", r"labels\1idx1", images)


class TestDoubts:
    def test_arrays_far_from_white_are_noted_with_a_range(self, tmp_path: Path) -> None:
        images = np.arange(162, dtype=np.uint16).reshape(2, 9, 9)
        for scale, hint in (
            (1, "`value_range=(0, 255)`"),
            (25, "`value_range=(0, 4095)`"),
            (100, "`value_range=(0, 16383)`"),
        ):
            (note,) = datasets.load(str(write_npz(tmp_path / "a.npz", X=images * scale))).notes
            assert f"uint16 up to {161 * scale}, where 65535 is white" in note
            assert hint in note
        assert not datasets.load(str(write_npz(tmp_path / "a.npz", X=images * 400))).notes
        assert (
            "uint8 up to 16"
            in datasets.load(str(write_npz(tmp_path / "a.npz", X=(images // 10).astype("u1")))).notes[0]
        )


class TestKits:
    @pytest.fixture
    def kit(self, tmp_path: Path, write_image: Callable[..., Path]) -> Path:
        for number in range(4):
            write_image(tmp_path / "kit" / "data" / "imgs" / f"{number}.png", number)
        (tmp_path / "kit" / "problem.py").write_text("raise SystemExit('this was run')")
        (tmp_path / "kit" / "data" / "train.csv").write_text("id,class\n2.png,7\n0.png,1\n")
        (tmp_path / "kit" / "data" / "test.csv").write_text("id,class\n1.png,7\n3.png,1\n")
        return tmp_path / "kit"

    def test_a_kit_is_its_training_images_and_its_code_is_not_run(self, kit: Path) -> None:
        dataset = datasets.load(str(kit))
        assert dataset.name == str(kit)
        assert dataset.ids == ("2.png", "0.png")
        assert dataset.labels.tolist() == ["7", "1"]
        assert dataset.sources[0].path == kit / "data" / "imgs" / "2.png"

    def test_an_id_that_leads_out_of_the_images_is_refused(self, kit: Path) -> None:
        (kit / "data" / "train.csv").write_text("id,class\n../train.csv,7\n")
        with pytest.raises(BadData, match="leads out of the image folder .* refused"):
            datasets.load(str(kit))

    def test_a_folder_without_problem_is_a_folder_of_images(self, kit: Path) -> None:
        (kit / "problem.py").unlink()
        dataset = datasets.load(str(kit))
        assert dataset.labels is None
        assert dataset.name == str(kit / "data" / "imgs")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "1"])
def test_features_are_those_of_the_same_images_in_png_files(tmp_path: Path, mode: str) -> None:
    shape = {"RGB": (40, 37, 3), "RGBA": (40, 37, 4)}.get(mode, (40, 37))
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536 if mode == "I;16" else 256, (6, *shape), np.uint16 if mode == "I;16" else np.uint8)
    if mode == "1":
        values = values > 127
    (tmp_path / "png").mkdir()
    for number, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / "png" / f"{number}.png")
    with Image.open(tmp_path / "png" / "0.png") as first:
        assert first.mode == mode
    request, features = FeatureRequest(Net("glyphnet"), ("block2_pool",)), {}
    names = ["png", "a.npz"]
    if mode == "L":
        names.append("my-images-idx3-ubyte")
        (tmp_path / names[-1]).write_bytes(idx(values))
    write_npz(tmp_path / "a.npz", X=values)
    for name in names:
        dataset, cache = datasets.load(str(tmp_path / name)), FeatureCache(tmp_path / f"features-{name}")
        extract(dataset, request, cache)
        features[name] = stored_features(dataset, request, cache).features["block2_pool"][:]
    for found in features.values():
        assert np.array_equal(found, features["png"])
