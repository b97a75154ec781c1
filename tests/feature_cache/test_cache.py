"""The folder of the cache: which one is used where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_cache.cache import FeatureCache, as_cache, default_cache
from feature_cache.errors import InvalidChoice


class TestDefault:
    def test_it_is_features_in_the_current_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LAYERTAP_CACHE", raising=False)
        assert default_cache() == FeatureCache(Path("features"))

    def test_it_is_what_the_environment_names(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("LAYERTAP_CACHE", str(tmp_path))
        assert default_cache() == as_cache(None) == as_cache("") == FeatureCache(tmp_path)

    def test_an_empty_variable_names_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAYERTAP_CACHE", "")
        assert default_cache() == FeatureCache(Path("features"))


def test_a_cache_is_named_by_its_folder_or_itself(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    assert as_cache(cache) is cache
    assert as_cache(tmp_path) == as_cache(str(tmp_path)) == cache


def test_a_url_that_was_made_a_path_is_no_folder() -> None:
    with pytest.raises(InvalidChoice, match="s3:/bucket/features is a URL that was made a path"):
        FeatureCache(Path("s3://bucket/features"))
