"""Modules of earlier versions: found under their former names, and only where no module has the name now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_cache.process import former_modules


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with a module `present`, whose former modules `gone` and `gone.part` are registered."""
    name = "former_modules_example"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "present.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(former_modules._FINDER, "names", {})
    former_modules.register(
        {
            f"{name}.gone": f"{name}.present",
            f"{name}.gone.part": f"{name}.present",
            f"{name}.present": f"{name}.nowhere",
        }
    )
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def test_names_of_a_former_module_are_those_of_the_module_of_today(package: str) -> None:
    assert importlib.import_module(f"{package}.gone").VALUE == 1
    assert importlib.import_module(f"{package}.gone.part").VALUE == 1


def test_the_module_of_today_is_imported_when_a_name_is_used(package: str) -> None:
    former = importlib.import_module(f"{package}.gone")
    assert f"{package}.present" not in sys.modules
    assert former.VALUE == 1
    assert f"{package}.present" in sys.modules


def test_a_module_that_exists_is_preferred(package: str) -> None:
    assert importlib.import_module(f"{package}.present").VALUE == 1


def test_a_name_that_is_nowhere_is_an_error(package: str) -> None:
    with pytest.raises(AttributeError):
        _ = importlib.import_module(f"{package}.gone").OTHER
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package}.never")


def test_registering_twice_changes_nothing(package: str) -> None:
    finders = list(sys.meta_path)
    former_modules.register({})
    assert sys.meta_path == finders
