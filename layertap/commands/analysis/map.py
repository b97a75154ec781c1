"""`layertap map`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_notes, print_skipped

if TYPE_CHECKING:
    from layertap.workflows.feature_map import FeatureMap

OPTIONS = ("out", "parquet", "projection", "clusters", "seed", "cache", "on_error")  # parameters by the same name


def map_features(args: argparse.Namespace) -> None:
    from layertap.runs import is_run, load_run  # slow to load, and the help does not need it
    from layertap.workflows.feature_map import feature_map

    if args.out is None and args.parquet is None:
        raise InvalidChoice("name the page to write with --out FILE.html, or a table with --parquet FILE.")
    options: dict[str, Any] = {option: getattr(args, option) for option in OPTIONS}
    command = shlex.join(shared.extract_command(args))
    options |= shared.extraction_options(args, f"with: {command}")
    if is_run(Path(args.data)):
        if args.net or args.space or args.layer:
            raise InvalidChoice(f"the run {args.data} has its own features; leave out --net, --space and --layer.")
        run = load_run(args.data, **shared.code(args))
        if args.on is not None:
            options["on"] = shared.load(args, args.on)
        found = feature_map(run, **options)
    else:
        found = feature_map(shared.dataset(args), shared.request(args), on=args.on, **options)
    print_notes(found.notes)
    if args.json:
        print_json(_to_json(found))
        return
    print_skipped(found.skipped, None)
    for file in found.files:
        print(f"{len(found.data):,} images are in {file}, {file.stat().st_size / 1e6:.1f} MB.")
    if args.out:
        print("Open it in a browser; it needs no network, and can be sent as it is.")


def _to_json(found: FeatureMap) -> dict[str, Any]:
    return {
        "data": found.data.name,
        "images": len(found.data),
        "axes": list(found.projection.axes),
        "columns": list(found.columns),
        "files": [{"file": str(file), "bytes": file.stat().st_size} for file in found.files],
        "skipped": [{"id": image.id, "reason": image.reason} for image in found.skipped],
    }
