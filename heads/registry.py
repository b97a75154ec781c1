"""The heads by name, what a head is, and how parameters given as text reach it."""

from __future__ import annotations

import importlib
import inspect
import json
import math
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from feature_cache.errors import InvalidChoice, unknown

HEADS = {
    "logistic": "heads.logistic:LogisticHead",
    "mlp": "heads.mlp:MLPHead",
}


class Head(Protocol):
    """A classifier of features, by scikit-learn's rules for estimators.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted; the order of the columns of `predict_proba`.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: np.ndarray) -> Self: ...

    def predict(self, X: Any) -> np.ndarray: ...

    def predict_proba(self, X: Any) -> np.ndarray: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def save(self, folder: Path) -> None:
        """Write the fitted head into `folder`, without pickle."""

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote; no code that the files may hold is run."""


def head_class(name: str) -> type[Head]:
    """The class of the head called `name`, imported now.

    Raises
    ------
    InvalidChoice
        When there is no such head.
    """
    if name not in HEADS:
        raise unknown("there is no head", name, HEADS)
    module, attribute = HEADS[name].split(":")
    found: type[Head] = getattr(importlib.import_module(module), attribute)
    return found


def make_head(name: str, params: dict[str, Any] | None = None) -> Head:
    """A new head, not yet fitted.

    Parameters
    ----------
    params : dict, optional
        Arguments of its constructor; texts are read as JSON where that is possible (``"0.1"`` is a
        number).

    Raises
    ------
    InvalidChoice
        When there is no such head or parameter, or a value is not of the parameter's type.
    """
    kind = head_class(name)
    defaults = {key: value.default for key, value in inspect.signature(kind).parameters.items()}
    values = {}
    for key, value in (params or {}).items():
        if key not in defaults:
            raise unknown(f"the head {name!r} has no parameter", key, defaults)
        values[key] = _typed(name, key, value, defaults[key])
    return kind(**values)


def _typed(head: str, key: str, value: Any, default: Any) -> Any:
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = json.loads(value)
        except ValueError:
            hint = "" if default is None else f"; its default is {default}"
            raise InvalidChoice(f"{key}={value} of the head {head!r} is not a number{hint}.") from None
    wanted = float if default is None else type(default)  # what is None by default is a number that may be given
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted and (value is not None or default is not None):
        raise InvalidChoice(f"{key}={value!r} of the head {head!r} should be of type {wanted.__name__}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidChoice(f"{key}={value} of the head {head!r} is not a finite number.")
    return value
