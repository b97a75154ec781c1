"""An S3 server on this machine with two buckets, and machines, which are folders of a user's caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feature_cache import FeatureCache
from feature_cache.remote import access
from tests.transfer.data.remote.s3_server import Faults, Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def faults(server: Server, monkeypatch: pytest.MonkeyPatch) -> Faults:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(access, "FIRST_WAIT", 0)
    server.faults.__init__()  # type: ignore[misc]
    return server.faults


@pytest.fixture
def store(server: Server) -> Iterator:
    """The file system of the server, with the bucket ``bucket``."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # of another address
    store = s3fs.S3FileSystem(use_listings_cache=False)
    store.mkdir("bucket")
    yield store
    server.faults.__init__()  # type: ignore[misc]
    store.rm("bucket", recursive=True)


@pytest.fixture
def on_machine(store: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FeatureCache]:
    """A cache in the bucket as a machine sees it that has its own mirror; machines have names."""

    def cache(machine: str, url: str = "s3://bucket/features") -> FeatureCache:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        return FeatureCache(url)  # type: ignore[arg-type]

    return cache
