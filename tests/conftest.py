"""Nothing that a test does stays in the user's folders."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    folder = tempfile.mkdtemp(prefix="layertap-tests-")
    os.environ["XDG_CACHE_HOME"] = folder  # converted nets are kept there, for all tests of a session
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
