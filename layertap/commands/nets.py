"""`layertap nets` and `layertap layers`."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from layertap import flags
from layertap.commands.arguments.shared import tuned_net
from layertap.commands.terminal.output import print_json, print_table, shape_text
from layertap.commands.terminal.scores import print_remarks
from transfer.engines.conversion.light_keras import prepare_to_look
from transfer.nets.catalogue import NETS, Net
from transfer.nets.costs import classifier_table, table
from transfer.nets.hub import builtin_presets
from transfer.nets.openvino_files.net import OpenVinoNet
from transfer.nets.suggestion import remarks_of
from transfer.request import FeatureRequest

if TYPE_CHECKING:
    from transfer.nets.costs import LayerInfo

LEAST_WIDTH = 20  # characters of a description, on however narrow a terminal


def nets(args: argparse.Namespace) -> None:
    if args.hub:
        _presets(args)
        return
    if args.json:
        print_json({"nets": [asdict(info) for info in NETS.values()]})
        return
    rows = [
        (i.name, f"{i.size} x {i.size}", i.min_size, i.readout, i.width, f"{i.parameters:.1f}", f"{i.gflops:.2f}")
        for i in NETS.values()
    ]
    print_table(("net", "input", "smallest", "readout", "width", "parameters (M)", "GFLOPs"), rows, left=(0, 3))
    print("\nA .keras, .h5, .onnx, .tflite or .xml file is a net too. The layers of a net: layertap layers NET")


def _presets(args: argparse.Namespace) -> None:
    """List what KerasHub offers."""
    presets = list(builtin_presets().values())
    if args.json:
        print_json({"presets": presets})
        return
    rows = [
        (
            f"hub:{preset['preset']}",
            preset["backbone"].removesuffix("Backbone"),
            f"{preset['parameters'] / 1e6:.1f}" if preset["parameters"] else "",
            preset["description"],
        )
        for preset in presets
    ]
    headings = ("net", "kind", "parameters (M)", "what it is")
    print_table(headings, [(*row[:3], _fitted(row[3], headings, rows)) for row in rows], left=(0, 1, 3))
    print(
        "\nKerasHub fetches a preset when it is first used. A folder that `save_to_preset` wrote is a net, too: "
        "hub:FOLDER"
    )


def _fitted(text: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The text of the last column, cut so that the table is no wider than the terminal; whole where there is none."""
    if not sys.stdout.isatty():
        return text
    others = [max(map(len, column)) for column in zip(headings[:-1], *(row[:-1] for row in rows), strict=True)]
    room = shutil.get_terminal_size().columns - sum(width + 2 for width in others)  # 2 spaces are between columns
    return textwrap.shorten(text, max(LEAST_WIDTH, room), placeholder=" ...")


def layers(args: argparse.Namespace) -> None:
    net = tuned_net(args.net) or Net(args.net)
    if args.has_process:
        prepare_to_look(net)
    backbone = FeatureRequest(net, size=args.size).build_outline()
    flags.mention("--preprocessing")  # of extract
    print_remarks(*remarks_of([net]))
    if not isinstance(backbone, OpenVinoNet):
        backbone.look_inside()
    infos = table(backbone)
    above = classifier_table(backbone)
    if args.json:
        lists = {"layers": [asdict(info) for info in infos], "classifier": [asdict(info) for info in above]}
        print_json({"net": args.net, "size": backbone.size, **lists})
        return
    rows = _rows(infos) + [("top", *row[1:]) for row in _rows(above)]
    print_table(("", "layer", "kind", "shape", "parameters", "GFLOPs", "kB/image"), rows, left=(1, 2))
    print(
        f"\nFor {backbone.size[0]} x {backbone.size[1]} pixels: GFLOPs from the pixels up to the layer, two for each "
        "multiply-add; kB/image at float32, before pooling."
    )
    if above:
        print("Layers marked top belong to the classifier: they are there when they are asked for by name.")


def _rows(infos: list[LayerInfo]) -> list[tuple[Any, ...]]:
    return [
        (
            "" if i.index is None else i.index,
            i.name,
            i.kind,
            shape_text(i.shape),
            f"{i.parameters:,}",
            f"{i.gflops:.4f}",
            f"{i.kilobytes:,.1f}",
        )
        for i in infos
    ]
