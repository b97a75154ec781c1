"""Panels show thumbnails of images of any size, and as much of their captions as there is room for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import AWKWARD, drawn, figures

from layertap.report import panels


@pytest.mark.parametrize("n", [1, 10, 13])
@pytest.mark.parametrize("channels", [1, 3])
def test_panel_is_drawn(tmp_path: Path, n: int, channels: int):
    images = list(np.random.default_rng(0).integers(0, 256, (n, 12, 9, channels), dtype=np.uint8))
    panels.panel(tmp_path / "panel.png", images, [f"{number}" for number in range(n)], "images")
    assert drawn(tmp_path / "panel.png").shape[1] == 1050


def test_gray_image_is_drawn_as_it_is(tmp_path: Path):
    levels = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    for name, image in (("flat", levels), ("one channel", levels[..., None]), ("three", np.stack([levels] * 3, 2))):
        panels.panel(tmp_path / name, [image], ["gray"], "images")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (50, 20, 3), (20, 50, 1), (1200, 900, 3), (3, 5000), (5000, 19, 3)])
def test_thumbnail_is_a_square_with_the_image_in_its_middle(shape: tuple[int, ...]):
    small = panels.thumbnail(np.full(shape, 100, np.uint8))
    side = len(small)
    assert small.shape == (side, side, 3)
    assert small.dtype == np.uint8
    assert side <= panels.LARGEST
    inside = (small == 100).all(2)
    assert np.array_equal(inside, (small != panels.GROUND).any(2))
    high, wide = inside.any(1).sum(), inside.any(0).sum()
    assert max(high, wide) == side
    assert inside.sum() == high * wide
    assert high / wide == pytest.approx(shape[0] / shape[1], rel=0.1) or min(high, wide) <= 2
    assert abs(int(inside.any(1).argmax()) - (side - high) // 2) <= 1


def test_large_image_is_averaged():
    board = np.indices((1600, 1600)).sum(0) % 2 * 200
    small = panels.thumbnail(board.astype(np.uint8))
    assert small.shape == (400, 400, 3)
    assert (small == 100).all()


def test_mistakes_are_24_at_most_and_keep_their_order(tmp_path: Path):
    images = [np.full((6, 4 + number % 5), 8 * number, np.uint8) for number in range(30)]
    captions = [panels.caption(f"folder/{number}.png", "cat", "→ dog 0.99") for number in range(30)]
    with figures() as seen:
        panels.mistakes(tmp_path / "mistakes.png", images, captions, "data: the surest mistakes")
    drawn(tmp_path / "mistakes.png")
    (plane,) = seen[0].axes
    assert [text.get_text().split("\n")[0] for text in plane.texts] == [f"folder/{number}.png" for number in range(24)]
    assert len({round(image.get_extent()[0], 3) for image in plane.images}) == 6
    assert len({round(image.get_extent()[2], 3) for image in plane.images}) == 4
    for number, (image, text) in enumerate(zip(plane.images, plane.texts, strict=True)):
        assert image.get_array()[3, 3].max() == 8 * number
        assert image.get_extent()[0] < text.get_position()[0] < image.get_extent()[1]


def test_no_mistakes_are_no_images(tmp_path: Path):
    panels.mistakes(tmp_path / "mistakes.png", [], [], "data: the surest mistakes")
    drawn(tmp_path / "mistakes.png")


def test_caption_of_a_mistake():
    assert panels.caption("a/b.png", "cat", "→ dog 0.98") == "a/b.png\ncat\n→ dog 0.98"
    assert panels.caption("a\nb.png", "c\nat", "d\nog").count("\n") == 2


def test_captions_stay_in_their_column(tmp_path: Path):
    images = [np.zeros((4, 4), np.uint8)] * len(AWKWARD)
    captions = [panels.caption(name, name, f"→ {name} 0.50") for name in AWKWARD]
    with figures() as seen:
        panels.mistakes(tmp_path / "mistakes.png", images, captions, "data")
    drawn(tmp_path / "mistakes.png")
    (plane,) = seen[0].axes
    for cell, caption in zip(plane.images, plane.texts, strict=True):
        image, text = cell.get_window_extent(), caption.get_window_extent()
        assert text.width < image.width + 8
        assert text.y0 > image.y1 - 1
        assert caption.get_text().endswith(" 0.50")
