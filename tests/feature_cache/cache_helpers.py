"""What several tests of the cache do: run a part in a process of its own, read one segment, compare with NumPy."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache import Features, FeatureSpec
from feature_cache.segments import segment
from feature_cache.segments.index import KeyIndex, ListedSegment
from feature_cache.segments.row_store import RowStore

# Children are forked from a small process that has the modules loaded, and no threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["feature_cache", "pytest"])


def in_child(work: Callable[..., Any], *arguments: Any, seconds: float = 60) -> Any:
    """What ``work(*arguments)`` returns in a process of its own, which has to end well and in time."""
    answer, end = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=_work, args=(end, work, arguments))
    child.start()
    end.close()
    try:
        told = answer.recv() if answer.poll(seconds) else "nothing in time"
    except EOFError:
        told = "nothing"
    finally:
        child.join(10)
        child.kill()
        child.join()
    assert child.exitcode == 0, f"the child ended with {child.exitcode} and said: {told}"
    return told


def _work(end: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        end.send(work(*arguments))
    except BaseException as error:
        end.send(f"{type(error).__name__}: {error}")
        raise


def stored_rows(path: Path, spec: FeatureSpec) -> np.ndarray:
    """All rows of one segment, as they are stored."""
    part = segment.read(path, spec)
    index = KeyIndex.of([(ListedSegment(path.name, *part.stamp, len(part)), part.digests, part.views)])
    return RowStore(path.parent, spec, index).gather(np.arange(len(part)))


def text(value: str | bytes) -> str:
    """A text among HDF5 attributes, of fixed or variable length."""
    return value.decode() if isinstance(value, bytes) else value


def assert_same(features: Features, array: np.ndarray, index: Any) -> None:
    """Indexing gives equal values of equal shape and dtype, or raises the same type of error."""
    try:
        expected = array[index]
    except Exception as error:
        with pytest.raises(Exception) as caught:
            features[index]
        assert type(caught.value) is type(error), f"{caught.value!r} for {error!r}"
        return
    got = features[index]
    assert type(got) is type(expected), f"{type(got)} for {type(expected)}"
    assert np.shape(got) == np.shape(expected), f"shape {np.shape(got)} for {np.shape(expected)}"
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
