"""Nothing that a test does stays in the user's folders."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile

import pytest

# Where pytest-xdist runs tests on every core, threads of NumPy and TensorFlow would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # it has the folder of the process that started it
    folder = tempfile.mkdtemp(prefix="layertap-tests-")
    os.environ["XDG_CACHE_HOME"] = folder  # converted nets are kept there, for all tests of a session
    # All processes of a session share what JAX compiles, too, which is most of what its tests wait for.
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    os.environ.pop("LAYERTAP_CACHE", None)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with the longest first: else a process would be busy with them when the others have nothing left.

    The tests of a module stay together, so that no process makes the fixtures of a module twice.
    """
    longest = ("tests/test_examples.py", "tests/test_cache_stress.py", "tests/layertap/ramp/test_referee.py")
    first = {item.path for item in items if item.nodeid.startswith(longest) or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and tests that there are by now."""
    gc.collect()
    gc.freeze()
