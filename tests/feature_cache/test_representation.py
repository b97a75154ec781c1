"""How the cache and what it holds are shown: never an error, never a row that is read, and texts escaped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec, Space
from feature_cache.joined import Joined
from feature_cache.representation import html_table

SPEC = FeatureSpec(net="<net>", weights="random-0", layer="last", size=(32, 32), pooling="none")
DIGESTS = np.arange(48, dtype=np.uint8).reshape(3, 16)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    cache = FeatureCache(tmp_path / "features")
    with cache[SPEC].writer({}) as writer:
        writer.append(DIGESTS, np.zeros((3, 4, 4, 8), np.float32))
    return cache


@pytest.fixture
def space(cache: FeatureCache) -> Space:
    return cache[SPEC]


@pytest.fixture
def features(space: Space) -> Features:
    return space.rows(DIGESTS)


def test_features_say_net_layer_shape_dtype_and_where(features: Features, space: Space) -> None:
    assert repr(features) == f"<Features of <net>/last, none: 3 x 4 x 4 x 8, float32; {space.folder}>"
    page = features._repr_html_()
    for text in ("&lt;net&gt;, random-0", "last", "3 x 4 x 4 x 8", "float32", "1.5 kB", str(space.folder)):
        assert f"<td>{text}</td>" in page


def test_joined_features_name_their_parts(features: Features) -> None:
    joined = Joined([features, features])
    assert repr(joined) == "<Joined features of <net>/last + <net>/last: 3 x 256, float32>"
    row = "<tr><td>&lt;net&gt;</td><td>last</td><td>3 x 4 x 4 x 8</td><td>float32</td></tr>"
    assert joined._repr_html_().count(row) == 2


def test_a_space_says_what_it_holds(space: Space, cache: FeatureCache) -> None:
    assert repr(space).startswith(f"<Space {SPEC.folder_name}: 3 rows of 4 x 4 x 8, float32, ")
    assert repr(space).endswith(f" kB; {cache.root}>")


def test_a_cache_says_its_spaces_and_size(cache: FeatureCache) -> None:
    assert repr(cache).startswith(f"<FeatureCache {cache.root}: 1 space, ")
    assert cache.nbytes == sum(file.stat().st_size for file in cache.root.glob("*/segment-*.h5"))
    page = cache._repr_html_()
    assert f"<td>{SPEC.folder_name}</td><td>3</td><td>4 x 4 x 8</td><td>float32</td>" in page
    assert repr(FeatureCache(cache.root / "none")) == f"<FeatureCache {cache.root / 'none'}: 0 spaces, 0 B>"


def test_what_is_damaged_is_shown_as_such(cache: FeatureCache) -> None:
    [file] = cache.root.glob("*/segment-*.h5")
    file.write_bytes(b"no HDF5")
    assert f"<td>{SPEC.folder_name}</td><td>damaged</td>" in cache._repr_html_()
    assert "is damaged or not a segment" in repr(cache[SPEC])


def test_texts_of_a_table_are_escaped() -> None:
    assert html_table("a & b", [("<b>", "1\n2")], ("<i>", "")) == (
        "<div><strong>a &amp; b</strong><table><tr><th>&lt;i&gt;</th><th></th></tr>"
        "<tr><td>&lt;b&gt;</td><td>1\\n2</td></tr></table></div>"
    )
