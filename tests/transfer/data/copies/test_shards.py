"""Shards: every image is in one part, copies are together, and the parts depend on the images alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache.errors import InvalidChoice
from feature_cache.files.digest_memo import DigestMemo
from transfer.data import datasets
from transfer.data.copies.shards import require_shard, shard_numbers
from transfer.data.datasets import Dataset
from transfer.data.images import FileSource


@pytest.fixture
def memo(tmp_path: Path) -> DigestMemo:
    return DigestMemo(tmp_path / "digests.sqlite")


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Dataset:
    """60 images of many sizes, of which each has a copy in another folder."""
    for number in range(60):
        file = write_image(tmp_path / "data" / "a" / f"{number}.png", number, side=8 + number)
        (tmp_path / "data" / "b").mkdir(exist_ok=True)
        shutil.copyfile(file, tmp_path / "data" / "b" / f"copy {number}.png")
    return datasets.load(str(tmp_path / "data"))


def of_images(dataset: Dataset, numbers: np.ndarray) -> dict[str, int]:
    return dict(zip(dataset.ids, numbers.tolist(), strict=True))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_parts_are_about_equal_and_hold_copies_together(folder: Dataset, memo: DigestMemo, count: int) -> None:
    parts = of_images(folder, shard_numbers(folder, count, memo))
    assert set(parts.values()) == set(range(count))
    assert all(parts[f"a/{number}.png"] == parts[f"b/copy {number}.png"] for number in range(60))
    sizes = np.bincount(list(parts.values()))
    assert sizes.max() - sizes.min() <= 4  # two images, each with its copy


def test_parts_do_not_depend_on_the_order_of_the_images_or_on_what_is_known_of_them(
    folder: Dataset, memo: DigestMemo
) -> None:
    parts = of_images(folder, shard_numbers(folder, 4, memo))
    shuffled = folder.select(np.random.default_rng(0).permutation(len(folder)))
    assert of_images(shuffled, shard_numbers(shuffled, 4, memo)) == parts
    known = folder.identify(memo)
    assert of_images(known, shard_numbers(known, 4, DigestMemo(Path("no such file")))) == parts


def test_only_files_whose_size_many_have_are_read(
    tmp_path: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):  # 40 of one size, and the others of sizes of their own
        size = 100 if number < 40 else 100 + number
        header = b"P5 %d 1 255\n" % size
        pixels = np.random.default_rng(number).bytes(size)
        (tmp_path / f"{number:03d}.pgm").write_bytes(header + pixels)
    dataset, read = datasets.load(str(tmp_path)), []
    load = FileSource.load

    def counted(self: FileSource) -> object:
        read.append(self.path.name)
        return load(self)

    monkeypatch.setattr(FileSource, "load", counted)
    sizes = np.bincount(shard_numbers(dataset, 4, memo))
    assert sorted(read) == [f"{number:03d}.pgm" for number in range(40)]
    assert sizes.max() - sizes.min() <= 2


def test_arrays_are_divided_by_their_content_and_unreadable_files_are_shared_out(
    tmp_path: Path, memo: DigestMemo
) -> None:
    digits = datasets.load("digits")
    sizes = np.bincount(shard_numbers(digits, 8, memo))
    assert sizes.sum() == 1797
    assert sizes.max() - sizes.min() <= 2
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(b"")
    broken = datasets.load(str(tmp_path))
    assert np.bincount(shard_numbers(broken, 4, memo)).tolist() == [10, 10, 10, 10]


def test_there_may_be_more_parts_than_images(memo: DigestMemo) -> None:
    few = datasets.load("digits").select(np.arange(3))
    assert len(set(shard_numbers(few, 10, memo).tolist())) == 3
    assert shard_numbers(few.select(np.arange(0)), 10, memo).shape == (0,)


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((8, 8), r"there is no part 8 of 8: parts are counted from 0, as by Slurm and Kubernetes, and the last .* 7/8"),
        ((-1, 8), "there is no part -1 of 8"),
        ((0, 0), "divides the images into 0 parts"),
        ((0.5, 2), "is the number of a part and how many there are"),
        ("0/8", "is the number of a part and how many there are"),
        (3, "is the number of a part and how many there are"),
    ],
)
def test_other_shards_are_refused(shard: object, message: str) -> None:
    with pytest.raises(InvalidChoice, match=message):
        require_shard(shard)  # type: ignore[arg-type]
