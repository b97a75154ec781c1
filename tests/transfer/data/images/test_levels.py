"""Numbers of any range become levels in one place, and pages become channels in one place."""

from __future__ import annotations

import numpy as np
import pytest

from feature_cache.errors import BadImage
from transfer.data.images import levels
from transfer.data.images.channels import gray_or_rgb, pages_as_channels
from transfer.data.images.levels import row_slices, stretch


class TestStretch:
    def test_halves_go_up_or_to_even(self) -> None:
        values = np.array([1, 3, 5])
        assert stretch(values, 0, 510).tolist() == [1, 2, 3]
        assert stretch(values, 0, 510, half_to_even=True).tolist() == [0, 2, 2]

    def test_all_16_bit_values_are_rounded_to_the_nearest_level(self) -> None:
        values = np.arange(65536, dtype=np.uint16)
        assert np.array_equal(stretch(values, 0, 65535), np.rint(values / 257).astype(np.uint8))

    def test_what_is_beyond_or_no_number_becomes_black_or_white(self) -> None:
        assert stretch(np.array([-9.0, np.nan, np.inf, 9.0]), 0, 1).tolist() == [0, 0, 255, 255]
        assert stretch(np.array([0.0, 1.0]), 0, 1, inverted=True).tolist() == [255, 0]
        assert stretch(np.array([3.0, 4.0]), 3, 3).tolist() == [0, 0]

    def test_parts_are_converted_as_the_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values = np.random.default_rng(0).random((7, 5, 3))
        whole = stretch(values, 0, 1)
        monkeypatch.setattr(levels, "_VALUES_AT_ONCE", 30)
        assert len(list(row_slices(values))) == 4
        assert np.array_equal(stretch(values, 0, 1), whole)


class TestPages:
    def test_pages_of_three_or_fewer_become_channels(self) -> None:
        pages = [np.full((2, 4, 1), level, np.uint8) for level in (1, 2, 3)]
        channels, remark = pages_as_channels(pages, 3, "a.tif")
        assert channels[0, 0].tolist() == [1, 2, 3]
        assert remark is None
        assert pages_as_channels(pages, 9, "a.tif")[1] == "of its 9 pages the first three are taken as colours"
        assert pages_as_channels(pages[:2], 2, "a.tif")[1] == "of its 2 pages both are taken as colours"

    @pytest.mark.parametrize("other", [np.zeros((3, 4)), np.zeros((2, 4), np.uint8), np.zeros((2, 4, 2))])
    def test_pages_that_differ_are_refused(self, other: np.ndarray) -> None:
        with pytest.raises(BadImage, match=r"a\.tif holds pages of several sizes or of several bands"):
            pages_as_channels([np.zeros((2, 4)), other], 2, "a.tif")

    def test_channels_become_gray_or_colour(self) -> None:
        assert gray_or_rgb(np.ones((2, 3, 1))).shape == (2, 3)
        assert gray_or_rgb(np.ones((2, 3, 2)))[0, 0].tolist() == [1, 1, 0]
        assert gray_or_rgb(np.ones((2, 3, 5))).shape == (2, 3, 3)
