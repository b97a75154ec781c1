"""`layertap cache list` and `layertap cache info`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from commands import arguments
from commands.output import print_json, print_table, shape_text, size_text


def list_spaces(args: argparse.Namespace) -> None:
    cache = arguments.cache(args)
    spaces = cache.spaces()
    if args.json:
        infos = [
            {"space": space.folder.name, "rows": len(space.index), "row_shape": space.row_shape, "bytes": space.nbytes}
            for space in spaces
        ]
        print_json({"cache": str(cache.root), "spaces": infos})
    elif not spaces:
        print(f"{cache.root} holds no features; compute some with: layertap extract")
    else:
        rows = [
            (s.folder.name, f"{len(s.index):,}", shape_text(s.row_shape or ()), size_text(s.nbytes)) for s in spaces
        ]
        print_table(("space", "rows", "a row", "size"), rows)


def info(args: argparse.Namespace) -> None:
    from feature_cache.errors import unknown

    cache = arguments.cache(args)
    spaces = {space.folder.name: space for space in cache.spaces()}
    if args.space not in spaces:
        raise unknown(f"{cache.root} has no space", args.space, spaces, "List them with: layertap cache list.")
    space = spaces[args.space]
    spec = json.loads(space.spec.to_json())
    segments: list[dict[str, Any]] = [
        {"file": part.path.name, "rows": len(part), "bytes": part.path.stat().st_size, "provenance": part.provenance}
        for part in space.segments
    ]
    if args.json:
        head = {"space": args.space, "rows": len(space.index), "row_shape": space.row_shape, "bytes": space.nbytes}
        print_json({**head, "spec": spec, "segments": segments})
        return
    row = shape_text(space.row_shape or ())
    print(f"{len(space.index):,} rows of {row}, {space.spec.dtype}, {size_text(space.nbytes)}\n")
    print_table(("", ""), [(key, value) for key, value in spec.items() if value is not None], left=(0, 1))
    print()
    rows = [
        (
            part["file"],
            f"{part['rows']:,}",
            size_text(part["bytes"]),
            part["provenance"].get("engine", ""),
            part["provenance"].get("finished", ""),
        )
        for part in segments
    ]
    print_table(("segment", "rows", "size", "engine", "finished"), rows, left=(0, 3, 4))
