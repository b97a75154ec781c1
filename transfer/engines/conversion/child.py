"""The program of the process that converts a net: it builds the net, cuts it, and writes it as a model of OpenVINO.

It reads two lines of JSON from stdin: the part (see `transfer.engines.net_part.NetPart`), at which it begins to build,
and, once the first images have come, their channels and the file to write. It writes one to stdout: an empty object, or
what went wrong. It ends at the end of stdin, and so with the process that started it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from feature_cache.errors import LayertapError, one_line
from feature_cache.process.keras_import import importing_keras
from transfer.engines.base import out_of_memory
from transfer.engines.conversion import light_keras
from transfer.engines.conversion.graph import save_openvino
from transfer.engines.net_part import NetPart


def main() -> None:
    """Convert one net."""
    gc.disable()  # a graph of objects that all stay, until the process ends
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no answer
    orders: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    light_keras.prepare()
    print(json.dumps(_outcome(orders)), file=answers, flush=True)
    os._exit(0)  # nothing is left to be tidied up


def _read(orders: SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(1)


def _outcome(orders: SimpleQueue[dict[str, Any]]) -> dict[str, Any]:
    try:
        _convert(orders)
    except LayertapError as error:
        return {"kind": type(error).__name__, "message": str(error)}
    except Exception as error:  # Keras and OpenVINO raise many types
        return {"kind": "MemoryError" if out_of_memory(error) else "", "message": one_line(error)}
    return {}


def _convert(orders: SimpleQueue[dict[str, Any]]) -> None:
    part = NetPart.from_config(orders.get())
    with importing_keras():
        # After `light_keras.prepare`: this loads Keras.
        from transfer.nets.backbone import backbone_for

    layers = [layer for layer, _ in part.readouts]
    backbone = backbone_for(part.net, [*layers, *part.start], part.size)
    order = orders.get()
    save_openvino(part.from_backbone(backbone, order["channels"]), Path(order["file"]))
