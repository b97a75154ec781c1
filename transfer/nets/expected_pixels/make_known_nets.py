"""Makes ``known_nets.json``: ``python -m transfer.nets.expected_pixels.make_known_nets`` builds every net once.

With ``KERAS_BACKEND=openvino`` that takes minutes. The package ``tf_keras`` has to be installed, too: it has the
nets that are in Keras 2 alone. Those that are in both have the same digests.
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from transfer.nets.catalogue import NETS
from transfer.nets.expected_pixels.graph import nodes_of
from transfer.nets.expected_pixels.known_nets import TABLE, digests, frontier
from transfer.nets.files.keras2 import to_keras3

# What nets that scale pixels themselves expect where they are built without that (include_preprocessing=False); of
# others it is not one of the preprocessings that there are.
WITHOUT_SCALING = {
    "ConvNeXt": "torch",
    "MobileNetV3": "tf",
    "EfficientNetV2B": "torch",
    "RegNet": "unit",
    "ResNetRS": "torch",
}
# Nets of several widths.
WIDTHS: dict[str, list[dict[str, Any]]] = {
    "MobileNet": [{"alpha": alpha} for alpha in (0.25, 0.5, 0.75, 1.0)],
    "MobileNetV2": [{"alpha": alpha} for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)],
}
for _name in ("MobileNetV3Large", "MobileNetV3Small"):
    WIDTHS[_name] = [{"alpha": 0.75}, {"alpha": 1.0}, {"alpha": 1.0, "minimalistic": True}]
OF_KERAS2 = ("RegNet", "ResNetRS")
SIDE = 96  # pixels; digests do not depend on it


def main() -> None:
    nets: dict[str, set[str]] = defaultdict(set)  # by digest
    for name, config in _configs():
        nodes = nodes_of(config)
        for digest in {digests(nodes)[-1][0], *frontier(nodes)}:
            nets[digest].add(name)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for digest, names in sorted(nets.items()):
        modes = {_preprocessing(name) for name in names}
        if len(modes) > 1:
            raise SystemExit(f"{sorted(names)} begin in the same way ({digest}), and expect {modes}")
        groups[tuple(sorted(names))].append(digest)
    content = [
        {"names": list(names), "preprocessing": _preprocessing(names[0]), "digests": found}
        for names, found in sorted(groups.items())
    ]
    lines = ",\n".join(json.dumps(group) for group in content)
    TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each net, and its configuration, of all versions of Keras that are installed."""
    import keras  # heavy

    from transfer.nets.glyphnet import net as glyphnet  # heavy: it imports Keras

    yield "glyphnet", keras.saving.serialize_keras_object(glyphnet.build((32, 32)))
    for name in [info.builder for info in NETS.values() if info.builder]:
        for width in WIDTHS.get(name, [{}]):
            yield name, keras.saving.serialize_keras_object(_built(keras, name, **width))
    old: Any = importlib.import_module("tf_keras")
    for name in dir(old.applications):
        if name.startswith(OF_KERAS2):
            yield name, to_keras3(json.loads(_built(old, name).to_json()))


def _built(keras: Any, name: str, **width: Any) -> Any:
    print(keras.__name__, name, width, flush=True)
    keras.backend.clear_session()
    return getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3), **width)


def _preprocessing(name: str) -> str | None:
    own = NETS[name.lower()].preprocessing if name.lower() in NETS else "none"
    if own != "none":
        return own
    return next((mode for start, mode in WITHOUT_SCALING.items() if name.startswith(start)), None)


if __name__ == "__main__":
    main()
