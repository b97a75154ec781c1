"""Quantised nets in a cache: kept as they were made, found by what identifies them, checked, merged and pruned."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.errors import DamagedFile, MissingFeatures
from feature_cache.files import quantised_nets
from feature_cache.files.quantised_nets import Calibration
from feature_cache.maintenance.merge import merge
from feature_cache.maintenance.prune import candidates, remove


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., str]:
    """Keep a net of these bytes in a cache; its calibration, as specs have it."""

    def kept(cache: FeatureCache, weights: bytes = b"weights") -> str:
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        (made / quantised_nets.NET).write_text("<net/>")
        (made / quantised_nets.WEIGHTS).write_bytes(weights)
        content = {"layers": ["a"], "images": []}
        return str(quantised_nets.keep(cache.root, made, content, count=12, seed=3, images="0" * 16))

    return kept


@pytest.fixture
def quantised(cache: FeatureCache, spec: FeatureSpec, keep: Callable[..., str], made_rows: Callable) -> FeatureSpec:
    """The spec of a space with a row, computed by a quantised net."""
    spec = replace(spec, precision="int8", calibration=keep(cache))
    with cache[spec].writer({}) as writer:
        writer.append(*made_rows(0, 1, (4,)))
    return spec


def test_a_net_is_read_as_it_was_kept(cache: FeatureCache, keep: Callable[..., str]) -> None:
    calibration = keep(cache)
    assert keep(cache) == calibration  # the same bytes are the same net
    assert keep(cache, b"others") != calibration
    assert Calibration.parse(calibration) == Calibration(12, 3, "0" * 16, calibration[-16:])
    file, content = quantised_nets.read(cache.root, calibration)
    assert file.read_text() == "<net/>"
    assert file.with_suffix(".bin").read_bytes() == b"weights"
    assert content["layers"] == ["a"]
    assert cache.spaces() == []


def test_the_digest_of_images_does_not_depend_on_their_order() -> None:
    digests = np.random.default_rng(0).integers(0, 256, (9, 16), np.uint8)
    assert quantised_nets.images_digest(digests) == quantised_nets.images_digest(digests[::-1])
    assert quantised_nets.images_digest(digests) != quantised_nets.images_digest(digests[1:])


@pytest.mark.parametrize("name", [quantised_nets.NET, quantised_nets.WEIGHTS, quantised_nets.DOCUMENT])
def test_an_altered_file_is_refused(cache: FeatureCache, keep: Callable[..., str], name: str) -> None:
    calibration = keep(cache)
    file, _ = quantised_nets.read(cache.root, calibration)
    (file.parent / name).write_bytes((file.parent / name).read_bytes().replace(b"e", b"f", 1))
    with pytest.raises(DamagedFile, match=r"cannot be read .*; name the cache that has it with"):
        quantised_nets.read(cache.root, calibration)


def test_a_net_that_is_gone_is_one_clear_error(cache: FeatureCache) -> None:
    with pytest.raises(MissingFeatures, match="no other gives the same numbers; name the cache"):
        quantised_nets.read(cache.root, str(Calibration(12, 3, "0" * 16, "1" * 16)))
    with pytest.raises(DamagedFile, match=r"'\.\./x' is not the calibration of a quantised net"):
        quantised_nets.read(cache.root, "../x")


def test_merging_takes_the_net_over_with_its_rows(cache: FeatureCache, quantised: FeatureSpec, tmp_path: Path) -> None:
    here = FeatureCache(tmp_path / "here")
    merge(here, cache)
    assert len(here[quantised]) == 1
    assert quantised.calibration is not None
    assert quantised_nets.read(here.root, quantised.calibration)[0].read_text() == "<net/>"


def test_a_net_is_pruned_with_the_last_space_that_names_it(cache: FeatureCache, quantised: FeatureSpec) -> None:
    assert quantised.calibration is not None
    file, _ = quantised_nets.read(cache.root, quantised.calibration)
    assert candidates(cache) == []
    chosen = candidates(cache, spaces=[quantised.folder_name])
    assert [removal.name for removal in chosen] == [quantised.folder_name]  # the net may be in use: it is new
    for part in file.parent.iterdir():
        os.utime(part, (time.time() - 7200,) * 2)
    assert candidates(cache) == []
    chosen = candidates(cache, spaces=[quantised.folder_name])
    assert [removal.reason for removal in chosen] == ["named", "quantised net that no space names"]
    remove(chosen)
    assert not file.parent.exists()
