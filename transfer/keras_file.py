"""What a ``.keras`` file says of itself, read without Keras and before Keras is let at it."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, UnsafeFile

LARGEST_CONFIG = 64 * 2**20  # bytes
# Layers of Keras that exist to run code or load further files.
_CODE_LAYERS = {"Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "__lambda__"}


def read_config(file: Path) -> dict[str, Any]:
    """The architecture in a ``.keras`` file, once it is known to need no code but Keras's own.

    Raises
    ------
    BadData
        When it is not such a file.
    UnsafeFile
        When it holds a lambda, or a layer or function from elsewhere.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
                raise ValueError("config.json is too large")
            config = json.loads(archive.read("config.json"))
        if not isinstance(config, dict):
            raise ValueError("config.json is not an object")
        _refuse_code(config, file)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError, zlib.error) as error:
        if isinstance(error, UnsafeFile):
            raise
        raise BadData(f"{file} is not a .keras file: save the net with model.save('name.keras') in Keras 3.") from error
    return config


def input_shape(config: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the input that `config` describes, or None where they are not fixed."""
    shape = _at(config, "build_config", "input_shape") or _at(config, "config", "layers", 0, "config", "batch_shape")
    if isinstance(shape, list) and len(shape) == 4 and all(type(side) is int for side in shape[1:3]):
        return shape[1], shape[2]
    return None


def _at(part: Any, *path: str | int) -> Any:
    """What is in nested dicts and lists at `path`, or None where they are not as expected."""
    for step in path:
        try:
            part = part[step]
        except (KeyError, IndexError, TypeError):
            return None
    return part


def _refuse_code(config: Any, file: Path) -> None:
    if isinstance(config, list):
        for part in config:
            _refuse_code(part, file)
    elif isinstance(config, dict):
        name = config.get("class_name")
        module = config.get("module")
        if isinstance(name, str):
            foreign = module is not None and str(module).split(".")[0] not in ("keras", "builtins")
            if foreign or name in _CODE_LAYERS or config.get("registered_name") not in (None, name):
                raise UnsafeFile(
                    f"{file} needs code of its own ({name}{f' of {module}' if foreign else ''}), and Layertap runs "
                    "no code from a model file. Rebuild that part from Keras's own layers."
                )
        for part in config.values():
            _refuse_code(part, file)
