"""Keeping a net that has been fine-tuned, and finding it again in the folder of its run. Keras is not imported here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import DamagedFile, InvalidChoice
from transfer.nets import NET_FILE, WEIGHTS_FILE, Net, net_from_config

if TYPE_CHECKING:
    from transfer.backbones import Backbone

CONFIG_FILE = "config.json"


def keep(backbone: Backbone, folder: Path) -> Net:
    """Write the net as it is now into `folder`: weights of a named net, or a ``.keras`` file of another."""
    net, model = backbone.net, backbone.model
    if net.is_file:
        model.save(folder / NET_FILE)
        return replace(net, name=str(folder / NET_FILE))
    file = folder / WEIGHTS_FILE
    if net.name.lower() == "glyphnet":
        from transfer.glyphnet.net import save_weights

        save_weights({layer.name: layer.get_weights()[:2] for layer in model.layers if layer.weights}, file, "float32")
    else:
        model.save_weights(file)
    return replace(net, weights=str(file))


def config_of(net: Net) -> dict[str, Any]:
    """`Net.as_config`, with the file as its name in the folder of the run, which may be moved."""
    config = net.as_config()
    key = "name" if net.is_file else "weights"
    return {**config, key: Path(config[key]).name}


def net_of_run(folder: Path) -> Net:
    """The net that was fine-tuned in the run in `folder`.

    Raises
    ------
    InvalidChoice
        When it is no such run.
    DamagedFile
        When it cannot be read.
    """
    file = folder / CONFIG_FILE
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if "fine_tuned" not in config:
            raise InvalidChoice(f"{folder} holds no net; a run of layertap fine-tune does.")
        return net_from_config(config["net"], folder)
    except FileNotFoundError as error:
        raise InvalidChoice(f"{folder} holds no net; a run of layertap fine-tune does.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidChoice):
            raise
        raise DamagedFile(f"{file} cannot be read ({error}).") from error
