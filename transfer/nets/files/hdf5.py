"""Nets and weights in HDF5 files: what such a file holds, read without following it anywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from feature_cache.files.weights_file import check


def read_net(file: Path) -> tuple[dict[str, Any] | None, str]:
    """The configuration of the net in a file that `model.save` wrote, and the version of Keras that did.

    Returns
    -------
    config : dict or None
        None where the file holds weights alone, or something else.
    version : str
        Empty where the file does not say it.

    Raises
    ------
    UnsafeFile
        When the file refers to other files, or declares far more numbers than it holds.
    OSError, ValueError, RuntimeError, KeyError, TypeError
        When it is damaged.
    """
    with h5py.File(file, "r") as store:
        check(store, file)
        version = _text(store.attrs.get("keras_version", ""))
        if "model_config" not in store.attrs:
            return None, version
        config = json.loads(_text(store.attrs["model_config"]), object_hook=_plain)
        if not isinstance(config, dict):
            raise ValueError("model_config is not an object")
        return config, version


def holds_weights(file: Path) -> bool:
    """Whether an HDF5 file looks like one that `model.save_weights` wrote."""
    try:
        with h5py.File(file, "r") as store:
            legacy = "layer_names" in store.attrs or "layer_names0" in store.attrs
            return legacy or any(name in store for name in ("layers", "_layer_checkpoint_dependencies", "vars"))
    except (OSError, RuntimeError):
        return False


def _plain(part: dict[str, Any]) -> Any:
    """Keras 2 writes tuples in a form of its own."""
    if part.get("class_name") == "__tuple__" and isinstance(part.get("items"), list):
        return part["items"]
    return part


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
