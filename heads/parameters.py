"""The parameters of heads: their names and values, as users pass them and as runs record them.

The parameters of an estimator that a head wraps have the names that the estimator gives them: ``C``, not
``estimator__C``. A head that copies another one for each label has the parameters of that one.
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

WRAPPED = "estimator"  # the parameter of a head that wraps an estimator
COPIED = "head"  # the parameter of a head that copies another one
TYPE_NAMES = {int: "int", float: "float", bool: "bool", str: "str", dict: "dict", list: "list"}


def parameters(head: Any) -> dict[str, Any]:
    """Every parameter of `head` that users can set, with its value."""
    own = head.get_params(deep=False)
    if COPIED in own:
        return parameters(own[COPIED])
    if WRAPPED not in own:
        return dict(own)
    prefix = f"{WRAPPED}__"
    inner = {key.removeprefix(prefix): value for key, value in head.get_params().items() if key.startswith(prefix)}
    return {**inner, **{key: value for key, value in own.items() if key != WRAPPED}}


def plain_parameters(head: Any) -> dict[str, Any]:
    """The parameters of `head` whose values JSON can hold."""
    return {key: value for key, value in parameters(head).items() if _is_plain(value)}


def set_parameters(head: Any, name: str, params: dict[str, Any]) -> None:
    """Set parameters of `head`.

    Parameters
    ----------
    name : str
        The name of the head, for error messages.
    params : dict
        Strings are read as JSON where that is possible, so ``"0.1"`` is a number.

    Raises
    ------
    InvalidChoice
        When there is no such parameter, or a value has the wrong type.
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
            parsed = _require_finite(name, key, _parse(value))
            if parsed != _as_json(known[key]):  # a default that is a tuple is not replaced by an equal list
                values[f"{WRAPPED}__{key}"] = parsed
    head.set_params(**values)
    if WRAPPED in own:
        _validate(head.estimator)
    if hasattr(head, "_check"):
        head._check()


def _validate(estimator: Any) -> None:
    """Raise InvalidChoice for values that scikit-learn would refuse later, in `fit`."""
    inside = estimator.get_params().values() if hasattr(estimator, "get_params") else ()
    try:
        for part in (estimator, *inside):
            if isinstance(part, BaseEstimator) and hasattr(part, "_parameter_constraints"):
                part._validate_params()
    except ValueError as error:
        raise InvalidChoice(one_line(error)) from error


def _typed(head: str, key: str, value: Any, allowed: tuple[type, ...], default: Any) -> Any:
    """`value` as one of the `allowed` types of a head's own parameter."""
    if isinstance(value, str):
        parsed = _parse(value)
        if not (str in allowed and not _fits(parsed, allowed)):
            if parsed is value and allowed and str not in allowed:
                raise _unreadable(head, key, value, allowed, default)
            value = parsed
    if float in allowed and int not in allowed and type(value) is int:
        value = float(value)
    if not _fits(value, allowed):
        types_allowed = " or ".join(TYPE_NAMES[kind] for kind in allowed if kind in TYPE_NAMES)
        raise InvalidChoice(f"{key}={value!r} of the head {head!r} should be of type {types_allowed}.")
    return _require_finite(head, key, value)


def _unreadable(head: str, key: str, value: str, allowed: tuple[type, ...], default: Any) -> InvalidChoice:
    """The error for a string that is not a value of an `allowed` type."""
    hint = "" if default is None else f"; its default is {json.dumps(default)}"
    expected = "true or false" if bool in allowed else "a number"
    return InvalidChoice(f"{key}={value} of the head {head!r} is not {expected}{hint}.")


def _fits(value: Any, allowed: tuple[type, ...]) -> bool:
    return not allowed or type(value) in allowed


def _require_finite(head: str, key: str, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidChoice(f"{key}={value} of the head {head!r} is not a finite number.")
    return value


def _parse(value: Any) -> Any:
    """The value that a string stands for in JSON; a string that is not JSON, or any other value, as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _hints(kind: type) -> dict[str, tuple[type, ...]]:
    """The types that each parameter of the constructor allows by its annotation; none where it allows any type."""
    hints = {}
    for key, parameter in inspect.signature(kind, eval_str=True).parameters.items():
        hint = parameter.annotation
        alternatives = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        origins = [typing.get_origin(one) or one for one in alternatives]
        allowed = tuple(list if one is Sequence else one for one in origins)
        hints[key] = () if Any in allowed or parameter.empty in allowed else allowed
    return hints


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold `value`."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(inner) for inner in value)
    return value is None or type(value) in (bool, int, float, str)


def _as_json(value: Any) -> Any:
    """`value` as it comes back from JSON: tuples become lists."""
    return json.loads(json.dumps(value)) if _is_plain(value) else value
