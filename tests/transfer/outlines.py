"""Files of nets without their weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras


def serialized(model: keras.Model) -> dict[str, Any]:
    """What Keras writes of the layers of a net."""
    return keras.saving.serialize_keras_object(model)


def outline(net: keras.Model | dict[str, Any], file: Path) -> Path:
    """Write what Keras writes of a net, or what is given as such, without its weights."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(net if isinstance(net, dict) else serialized(net)))
        archive.writestr("metadata.json", json.dumps({"keras_version": keras.__version__}))
    return file
