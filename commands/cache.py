"""`layertap cache list` and `layertap cache info`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from commands import arguments
from commands.output import print_json, print_table, shape_text, size_text
from feature_cache.errors import DamagedFile, unknown


def list_spaces(args: argparse.Namespace) -> None:
    cache = arguments.cache(args)
    infos: list[dict[str, Any]] = []
    for name in cache.spaces():
        try:
            space = cache.open(name)
            rows = sum(map(len, space.segments))
        except DamagedFile as error:
            print(f"layertap: {error}", file=sys.stderr)
            continue
        infos.append({"space": name, "rows": rows, "row_shape": space.row_shape, "bytes": space.nbytes})
    if args.json:
        print_json({"cache": str(cache.root), "spaces": infos})
    elif not infos:
        print(f"{cache.root} holds no features; compute some with: layertap extract")
    else:
        cells = [(i["space"], f"{i['rows']:,}", shape_text(i["row_shape"] or ()), size_text(i["bytes"])) for i in infos]
        print_table(("space", "rows", "a row", "size"), cells)


def info(args: argparse.Namespace) -> None:
    cache = arguments.cache(args)
    names = cache.spaces()
    if args.space not in names:
        raise unknown(f"{cache.root} has no space", args.space, names, "List them with: layertap cache list.")
    space = cache.open(args.space)
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
