"""Parameters of heads: their names and values as users give them, and as a run records them.

Those of an estimator that a head wraps have its own names: ``C``, not ``estimator__C``. A head that copies another for
each label has the parameters of that one.
"""

from __future__ import annotations

import inspect
import json
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator

from feature_cache.errors import InvalidChoice, one_line, unknown

WRAPPED = "estimator"
COPIED = "head"
NAMES = {int: "int", float: "float", bool: "bool", str: "str", dict: "dict", list: "list"}


def parameters(head: Any) -> dict[str, Any]:
    """Every parameter of `head` that can be given, with its value."""
    own = head.get_params(deep=False)
    if COPIED in own:
        return parameters(own[COPIED])
    if WRAPPED not in own:
        return dict(own)
    prefix = f"{WRAPPED}__"
    inner = {key.removeprefix(prefix): value for key, value in head.get_params().items() if key.startswith(prefix)}
    return {**inner, **{key: value for key, value in own.items() if key != WRAPPED}}


def plain_parameters(head: Any) -> dict[str, Any]:
    """The parameters of `head` that JSON can hold."""
    return {key: value for key, value in parameters(head).items() if _is_plain(value)}


def set_parameters(head: Any, name: str, params: dict[str, Any]) -> None:
    """Set parameters of `head`; texts are read as JSON where that is possible (``"0.1"`` is a number).

    Parameters
    ----------
    name : str
        Of the head, for errors.

    Raises
    ------
    InvalidChoice
        When there is no such parameter, or a value is not of its type.
    """
    known, own = parameters(head), head.get_params(deep=False)
    if COPIED in own:
        set_parameters(own[COPIED], name, params)
        return
    hints = _hints(type(head))
    values = {}
    for key, value in params.items():
        if key not in known:
            raise unknown(f"the head {name!r} has no parameter", key, known)
        if key in own and key != WRAPPED:
            values[key] = _typed(name, key, value, hints.get(key, ()), own[key])
        else:
            read = _finite(name, key, _read(value))
            if read != _as_json(known[key]):  # a tuple by default stays one
                values[f"{WRAPPED}__{key}"] = read
    head.set_params(**values)
    if WRAPPED in own:
        _validate(head.estimator)
    if hasattr(head, "_check"):
        head._check()


def _validate(estimator: Any) -> None:
    """Have scikit-learn check the values before any work is done."""
    inside = estimator.get_params().values() if hasattr(estimator, "get_params") else ()
    try:
        for part in (estimator, *inside):
            if isinstance(part, BaseEstimator) and hasattr(part, "_parameter_constraints"):
                part._validate_params()
    except ValueError as error:
        raise InvalidChoice(one_line(error)) from error


def _typed(head: str, key: str, value: Any, allowed: tuple[type, ...], default: Any) -> Any:
    if isinstance(value, str):
        read = _read(value)
        if not (str in allowed and not _fits(read, allowed)):
            if read is value and allowed and str not in allowed:
                raise _unreadable(head, key, value, allowed, default)
            value = read
    if float in allowed and int not in allowed and type(value) is int:
        value = float(value)
    if not _fits(value, allowed):
        wanted = " or ".join(NAMES[kind] for kind in allowed if kind in NAMES)
        raise InvalidChoice(f"{key}={value!r} of the head {head!r} should be of type {wanted}.")
    return _finite(head, key, value)


def _unreadable(head: str, key: str, value: str, allowed: tuple[type, ...], default: Any) -> InvalidChoice:
    hint = "" if default is None else f"; its default is {json.dumps(default)}"
    what = "true or false" if bool in allowed else "a number"
    return InvalidChoice(f"{key}={value} of the head {head!r} is not {what}{hint}.")


def _fits(value: Any, allowed: tuple[type, ...]) -> bool:
    return not allowed or type(value) in allowed


def _finite(head: str, key: str, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidChoice(f"{key}={value} of the head {head!r} is not a finite number.")
    return value


def _read(value: Any) -> Any:
    """`value`, or what it is in JSON; a text that is no JSON is itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _hints(kind: type) -> dict[str, tuple[type, ...]]:
    """The types that each parameter of the constructor may have, by its annotation; none where it may be anything."""
    found = {}
    for key, parameter in inspect.signature(kind, eval_str=True).parameters.items():
        hint = parameter.annotation
        named = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        origins = [typing.get_origin(one) or one for one in named]
        allowed = tuple(list if one is Sequence else one for one in origins)
        found[key] = () if Any in allowed or parameter.empty in allowed else allowed
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(inner) for inner in value)
    return value is None or type(value) in (bool, int, float, str)


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value)) if _is_plain(value) else value
