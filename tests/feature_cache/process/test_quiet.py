"""Silence for native code, and only for it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from feature_cache.process.native_output import import_quietly, native_stderr_silenced


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


def test_a_package_is_imported_without_what_its_native_code_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    (tmp_path / "greeter").mkdir()
    (tmp_path / "greeter" / "__init__.py").write_text("import os\nos.write(2, b'hello')\nfrom greeter import part\n")
    (tmp_path / "greeter" / "part.py").write_text("import os\nos.write(2, b' again')\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for name in ("greeter", "broken", "absent_package"):
        import_quietly(name)
    greeter = importlib.import_module("greeter")
    assert greeter.part.__spec__ is not None and greeter.__spec__ is not None
    assert greeter.__loader__ is greeter.__spec__.loader  # its own, which knows its source
    assert type(greeter.__loader__) is type(greeter.part.__loader__)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("broken")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("absent_package")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
