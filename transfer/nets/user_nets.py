"""Nets by a function of the user's, ``FILE.py:make_net`` or ``module:function``, which is run only where it is named.

What identifies such a net is what the function returns: the architecture and the weights, and the source of the code
where the net has layers that are not Keras's. Keras is imported when the function is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from feature_cache.errors import InvalidChoice, UnsafeFile
from feature_cache.process.keras_import import importing_keras
from feature_cache.process.user_code import USER_ERRORS, UserCode, explanation, result
from transfer.nets.files.keras_file import HUB, refuse_code
from transfer.nets.hub import is_preset
from transfer.nets.keras_graph import all_layers, has_graph

CODE = UserCode("net", "make_net", "layertap_net_")
_IN_MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_HALF = ("float16", "bfloat16")
_returned: weakref.WeakSet[Any] = weakref.WeakSet()  # the models that functions have returned


@dataclass(frozen=True)
class UserNet:
    """What a net is that a function returned.

    Attributes
    ----------
    digest : str
        Hexadecimal SHA-256 of what it computes: the architecture, the weights, and the code that is not Keras's.
    config : dict
        Its architecture; empty where a layer does not tell its own.
    input_shape : tuple
        The shape of one image; sides that are not fixed are None.
    needs_code : bool
        Whether it has layers or functions that are neither Keras's nor KerasHub's.
    """

    digest: str
    config: dict[str, Any]
    input_shape: tuple[int | None, ...]
    needs_code: bool


def is_code(name: str) -> bool:
    """Whether a name of a net stands for a function of the user's.

    Examples
    --------
    >>> is_code("nets.py:make_net"), is_code("nets.py"), is_code("my_nets:make_net"), is_code("vgg16")
    (True, True, True, False)
    """
    return not is_preset(name) and (CODE.is_file(name) or _IN_MODULE.fullmatch(name) is not None)


def names_function(name: str) -> bool:
    """Whether a name is that of a function which a file has, or of one in a module that can be found; nothing is run.

    Examples
    --------
    >>> names_function("os.path:join"), names_function("vgg16:block5_pool"), names_function("nets.py:make_net")
    (True, False, False)
    """
    if not is_code(name):
        return False
    source, function = split(name)
    if not CODE.is_file(name):
        package = source.partition(".")[0]
        here = Path(package).is_dir() or Path(f"{package}.py").is_file()
        return here or importlib.util.find_spec(package) is not None
    with contextlib.suppress(OSError):
        return re.search(rf"^def {re.escape(function)}\b".encode(), Path(source).read_bytes(), re.MULTILINE) is not None
    return False


def split(name: str) -> tuple[str, str]:
    """The file or module of a function, and the function."""
    if CODE.is_file(name):
        return CODE.split(name)
    module, _, function = name.partition(":")
    return module, function


def in_any_folder(name: str) -> str:
    """The name by which a function is found from any working folder."""
    source, function = split(name)
    return f"{Path(source).absolute()}:{function}" if CODE.is_file(name) else name


def named_again(recorded: str, named: Sequence[str]) -> str | None:
    """The one of the names of functions that the user gave which stands for a recorded one; None where none does."""
    return next((name for name in named if is_code(name) and split(name)[1] == split(recorded)[1]), None)


def describe(name: str, seed: int) -> UserNet:
    """What the net of a function is; the function is called, once for the same content of its file.

    Raises
    ------
    InvalidChoice
        When there is no such file, module or function, it raises an exception, or returns no net.
    """
    return _described(name, seed, CODE.digest(name) if CODE.is_file(name) else "")


@lru_cache(maxsize=16)
def _described(name: str, seed: int, content: str) -> UserNet:
    return _description(name, _called(name, seed))


def build(name: str, seed: int) -> Any:
    """The model that the function `name` returns, computed in float32.

    Raises
    ------
    InvalidChoice
        As of `describe`; and when the function returns another net than before.
    """
    before, model = describe(name, seed), _called(name, seed)
    if _description(name, model).digest != before.digest:
        _described.cache_clear()  # what it loads may have changed since
        raise InvalidChoice(
            f"{name} returned another net than when it was called before. Let it load its weights from a file, or seed "
            "what it draws them with."
        )
    for layer in all_layers(model):
        if layer.compute_dtype in _HALF:  # the precision is the spec's
            layer.dtype_policy = "float32"
    return model


def _called(name: str, seed: int) -> Any:
    """What the function returns, which is checked; weights that Keras draws are drawn by `seed`."""
    with importing_keras():
        import keras  # heavy

        from transfer.nets.keras_settings import customary_settings, fresh_names, seeded  # it imports Keras

    file, function = split(name)
    module = CODE.module(file) if CODE.is_file(name) else _imported(name)  # what it builds itself counts no names
    with customary_settings(), fresh_names(), seeded(seed):
        model = result(module, function, name, _file_of(module) or file)
    if not isinstance(model, keras.Model):
        shown = f"the class {model.__name__}" if inspect.isclass(model) else type(model).__name__
        raise InvalidChoice(f"{name} returned {shown}; it should return a built Keras model.")
    if not (has_graph(model) and model.built):
        raise InvalidChoice(
            f"{name} returned a {type(model).__name__} that is not a built Functional or Sequential model, so it has "
            "no layers to cut at. Build it with its Input, or return the part of it that has layers."
        )
    if model in _returned:
        raise InvalidChoice(
            f"{name} returned a model that it had returned before; let it build, or load, a new one at each call."
        )
    _returned.add(model)
    return model


def _imported(name: str) -> ModuleType:
    """The module of ``module:function``; the working folder is looked at last."""
    module, here = split(name)[0], str(Path.cwd())
    sys.path.append(here)
    try:
        return importlib.import_module(module)
    except USER_ERRORS as error:
        origin = importlib.util.find_spec(module.partition(".")[0])
        reason = explanation(error, (origin.origin if origin else None) or "")
        raise InvalidChoice(f"the module {module!r} of the net {name} cannot be imported{reason}") from error
    finally:
        sys.path.remove(here)


def _description(name: str, model: Any) -> UserNet:
    config = _architecture(model)
    kinds = [type(layer) for layer in all_layers(model)]
    foreign = {kind.__module__ for kind in kinds if kind.__module__.split(".")[0] not in ("keras", HUB)}
    needs_code = not config or bool(foreign) or _refers_to_code(config)
    total = hashlib.sha256()
    described = config or [kind.__qualname__ for kind in kinds]
    total.update(json.dumps(described, sort_keys=True).encode())
    for variable in model.weights:
        value = np.asarray(_as_numpy(variable))
        total.update(f"{value.shape} {value.dtype}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    if needs_code:
        for source in _sources(name, foreign):
            total.update(len(source).to_bytes(8, "little") + source)
    return UserNet(total.hexdigest(), config, tuple(model.inputs[0].shape[1:]), needs_code)


def _as_numpy(variable: Any) -> Any:
    from keras import ops  # heavy

    return ops.convert_to_numpy(variable.value)


def _architecture(model: Any) -> dict[str, Any]:
    """The configuration of a model without how it is trained; empty where a layer does not tell its own."""
    import keras  # heavy

    try:
        config = keras.saving.serialize_keras_object(model)
    except Exception:  # the layers are the user's, and may raise anything
        return {}
    config.pop("compile_config", None)
    described: dict[str, Any] = json.loads(json.dumps(config, default=lambda part: type(part).__name__))
    return described


def _refers_to_code(config: dict[str, Any]) -> bool:
    try:
        refuse_code(config, Path())
    except UnsafeFile:
        return True
    return _has_function(config)


def _has_function(config: Any) -> bool:
    """Whether a function is a part of a net; Keras refers to its own by their names alone."""
    if isinstance(config, dict):
        return config.get("class_name") == "function" or any(map(_has_function, config.values()))
    return isinstance(config, list) and any(map(_has_function, config))


def _sources(name: str, modules: set[str]) -> Iterator[bytes]:
    """The source of the function's own module, and of others."""
    if CODE.is_file(name):
        yield CODE.digest(name).encode()
    else:
        modules = modules | {split(name)[0]}
    for module in sorted(modules):
        file = _file_of(sys.modules.get(module))
        if file and not module.startswith(CODE.prefix) and Path(file).is_file():
            yield Path(file).read_bytes()


def _file_of(module: ModuleType | None) -> str | None:
    return getattr(module, "__file__", None)
