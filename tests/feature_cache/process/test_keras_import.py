"""A missing backend of Keras is one clear error; another missing package is left as it is."""

from __future__ import annotations

import pytest

from feature_cache.errors import MissingDependency
from feature_cache.process.keras_import import importing_keras


@pytest.mark.parametrize("name", ["tensorflow", "jax", "torch"])
def test_a_missing_backend_says_how_to_install_it(name: str) -> None:
    with pytest.raises(MissingDependency) as caught, importing_keras():
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    install = f"pip install 'layertap[{name}]'"
    assert (
        str(caught.value)
        == f"Keras needs {name}: {install}, or set KERAS_BACKEND to another of tensorflow, jax, torch."
    )


def test_another_missing_package_is_not_a_backend() -> None:
    with pytest.raises(ModuleNotFoundError, match="absent") as caught, importing_keras():
        raise ModuleNotFoundError("No module named 'absent'", name="absent")
    assert not isinstance(caught.value, MissingDependency)
