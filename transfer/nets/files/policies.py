"""The precision that a net's configuration says its layers compute in. Keras is not imported here."""

from __future__ import annotations

from typing import Any

_HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
# Classes of Keras that say what a layer computes in; ``Policy`` is that of Keras 2.
_POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy")


def computes_in_half(config: Any) -> bool:
    """Whether some layer of a net's configuration computes in 16 bits."""
    return in_float32(config) != config


def in_float32(config: Any) -> Any:
    """The same configuration with layers that compute in float32 where they would in 16 bits.

    What computes in float32 or float64 is left as it is.
    """
    if isinstance(config, list):
        return [in_float32(part) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") in _POLICIES and _at(config, "config", "name") in _HALF:
        return {**config, "config": {**config["config"], "name": "float32"}}
    if _at(config, "config", "source_name") in _HALF:  # of a net with quantized weights
        return {**config, "config": {**config["config"], "source_name": "float32"}}
    parts = {key: in_float32(part) for key, part in config.items()}
    if _is_layer(config) and _at(config, "config", "dtype") in _HALF:
        parts["config"] = {**parts["config"], "dtype": "float32"}
    return parts


def _is_layer(config: dict[str, Any]) -> bool:
    """Whether this is a layer, and not an operation such as a cast, whose dtype is its purpose."""
    return str(config.get("module") or "keras.layers").startswith(("keras.layers", "tf_keras.layers"))


def _at(config: dict[str, Any], outer: str, inner: str) -> Any:
    part = config.get(outer)
    found = part.get(inner) if isinstance(part, dict) else None
    return found if isinstance(found, str) else None
