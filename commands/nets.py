"""`layertap nets` and `layertap layers`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from commands.output import print_json, print_table, shape_text


def nets(args: argparse.Namespace) -> None:
    from transfer.nets import NETS

    if args.json:
        print_json({"nets": [asdict(info) for info in NETS.values()]})
        return
    rows = [
        (i.name, f"{i.size} x {i.size}", i.min_size, i.readout, i.width, f"{i.parameters:.1f}", f"{i.gflops:.2f}")
        for i in NETS.values()
    ]
    print_table(("net", "input", "smallest", "readout", "width", "parameters (M)", "GFLOPs"), rows, left=(0, 3))
    print("\nA .keras file is a net too. The layers of a net: layertap layers NET")


def layers(args: argparse.Namespace) -> None:
    from transfer.nets import Net
    from transfer.request import Request

    weights = None if Net(args.net).is_file else "none"  # shapes need no weights
    backbone = Request(Net(args.net, weights), size=args.size).backbone
    from transfer.layers import table  # after Keras

    infos = table(backbone)
    if args.json:
        print_json({"net": args.net, "size": backbone.size, "layers": [asdict(info) for info in infos]})
        return
    rows = [
        (i.index, i.name, i.kind, shape_text(i.shape), f"{i.parameters:,}", f"{i.gflops:.4f}", f"{i.kilobytes:,.1f}")
        for i in infos
    ]
    print_table(("", "layer", "kind", "shape", "parameters", "GFLOPs", "kB/image"), rows, left=(1, 2))
    print(
        f"\nFor {backbone.size[0]} x {backbone.size[1]} pixels: GFLOPs from the pixels up to the layer, two for each "
        "multiply-add; kB/image at float32, before pooling."
    )
