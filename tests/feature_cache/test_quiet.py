"""Silence for native code, and only for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from feature_cache.quiet import native_stderr_silenced


def test_what_native_code_writes_is_dropped_and_what_follows_is_not(capfd: pytest.CaptureFixture):
    os.write(2, b"before ")
    with native_stderr_silenced():
        os.write(2, b"greeting")
        os.write(1, b"result")
    os.write(2, b"after")
    captured = capfd.readouterr()
    assert captured.err == "before after"
    assert captured.out == "result"


def test_exceptions_pass_and_stderr_comes_back(capfd: pytest.CaptureFixture):
    with pytest.raises(ZeroDivisionError), native_stderr_silenced():
        raise ZeroDivisionError
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_no_file_descriptor_is_left_open():
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("only where open files can be counted")
    before = len(list(open_files.iterdir()))
    for _ in range(3):
        with native_stderr_silenced():
            pass
    assert len(list(open_files.iterdir())) == before
