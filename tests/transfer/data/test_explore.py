"""A survey of a data set: what it says of images of many kinds, and of those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data import datasets
from transfer.data.images import to_pixels
from transfer.data.survey import DatasetSurvey, pixels_as_net_input, summary, survey, thumbnail


def look_at(image: Path, size: tuple[int, int] = (32, 32)) -> DatasetSurvey:
    return survey(datasets.from_files([image]), size)


def png(bits: int, kind: int, row: bytes) -> bytes:
    """A PNG file of one row of two pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("mode", "suffix", "bits"),
    [
        ("L", "png", 8),
        ("RGB", "bmp", 8),
        ("RGBA", "png", 8),
        ("CMYK", "jpg", 8),
        ("P", "gif", 8),
        ("1", "png", 1),
        ("I;16", "png", 16),
        ("I;16", "tif", 16),
    ],
)
def test_modes_and_bits_are_those_of_the_file(tmp_path: Path, mode: str, suffix: str, bits: int) -> None:
    file = tmp_path / f"an é image.{suffix}"
    Image.new(mode, (7, 5)).save(file)
    [look] = look_at(file).records
    assert (look.mode, look.bits, look.shape, look.bytes) == (mode, bits, (5, 7), file.stat().st_size)
    assert not look.animated


def test_16_bits_of_a_colour_are_told_though_8_are_read(tmp_path: Path) -> None:
    (tmp_path / "deep.png").write_bytes(png(16, 2, bytes(12)))
    (tmp_path / "shallow.png").write_bytes(png(4, 0, bytes(1)))
    assert look_at(tmp_path / "deep.png").records[0].bits == 16
    assert look_at(tmp_path / "shallow.png").records[0].bits == 4


def test_shapes_are_upright_and_not_those_of_the_draft(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (640, 400)).save(tmp_path / "a.jpg", exif=exif)
    assert look_at(tmp_path / "a.jpg", (16, 16)).records[0].shape == (640, 400)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_of_an_animation_the_first_frame_is_looked_at(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (50, 100, 150)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    found = look_at(tmp_path / f"a.{suffix}")
    assert found.records[0].animated
    assert summary(found)["animated"] == 1
    assert summary(found)["mean"] == pytest.approx([50, 50, 50], abs=1)


@pytest.mark.parametrize("threads", [1, 4])
def test_mean_and_deviation_are_of_the_pixels_that_a_net_is_given(
    tmp_path: Path, write_image: Callable[..., Path], threads: int
) -> None:
    for seed, mode in enumerate(("L", "RGB", "RGB", "L", "RGB")):
        write_image(tmp_path / f"{seed}.png", seed, side=20 + seed, mode=mode)
    dataset = datasets.load(str(tmp_path))
    told = summary(survey(dataset, (24, 16), threads=threads))
    pixels = [np.broadcast_to(to_pixels(s.load()[1], (24, 16)), (24, 16, 3)) for s in dataset.sources]
    values = np.concatenate([image.reshape(-1, 3) for image in pixels]).astype(np.float64)
    assert told["mean"] == pytest.approx(values.mean(0).tolist())
    assert told["std"] == pytest.approx(values.std(0).tolist())


def test_the_unreadable_are_named_and_the_rest_is_looked_at(class_folder: Path) -> None:
    (class_folder / "a" / "0.png").write_bytes(b"no image")
    content = (class_folder / "b" / "1.png").read_bytes()
    (class_folder / "b" / "1.png").write_bytes(content[:-40])
    (class_folder / "b" / "3.png").write_bytes(b"")
    done: list[tuple[int, int]] = []
    found = survey(datasets.load(str(class_folder)), progress=lambda *now: done.append(now))
    assert [one.id for one in found.unreadable] == ["a/0.png", "b/1.png", "b/3.png"]
    assert found.dataset.ids == ("a/2.png", "a/4.png", "a/6.png", "b/5.png", "b/7.png")
    assert len(found.records) == len(found.grays) == len(found.hashes) == 5
    assert done == [(number, 8) for number in range(1, 9)]
    told = summary(found)
    assert (told["images"], told["readable"], told["classes"]) == (8, 5, {"a": 3, "b": 2})
    assert told["shapes"] == [{"height": 12, "width": 12, "count": 5}]


def test_nothing_readable_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    told = summary(survey(datasets.load(str(tmp_path))))
    assert (told["readable"], told["mean"], told["bytes"], told["shapes"]) == (0, None, None, [])


def test_results_do_not_depend_on_threads_and_chunks(class_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = survey(datasets.load(str(class_folder)))
    monkeypatch.setattr("transfer.data.survey.CHUNK", 3)
    other = survey(datasets.load(str(class_folder)), threads=3)
    assert other.records == plain.records
    assert np.array_equal(other.grays, plain.grays)
    assert np.array_equal(other.hashes, plain.hashes)
    assert np.array_equal(other.histogram, plain.histogram)


def test_images_in_memory_have_no_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=np.zeros((3, 5, 4, 3), np.uint8), y=[0, 1, 1])
    told = summary(survey(datasets.load(str(tmp_path / "d.npz"))))
    assert (told["formats"], told["bytes"], told["classes"]) == ({"array": 3}, None, {"0": 1, "1": 2})


@pytest.mark.parametrize(
    ("shape", "longest", "expected"), [((80, 40), 20, (20, 10)), ((8, 4), 20, (8, 4)), ((900, 2), 20, (20, 1))]
)
def test_a_thumbnail_keeps_the_proportions(
    tmp_path: Path, shape: tuple[int, int], longest: int, expected: tuple[int, int]
) -> None:
    Image.new("RGB", shape[::-1]).save(tmp_path / "a.png")
    found = look_at(tmp_path / "a.png")
    assert thumbnail(found, 0, longest).shape == (*expected, 3)
    assert pixels_as_net_input(found, 0, (6, 7)).shape == (6, 7, 3)
