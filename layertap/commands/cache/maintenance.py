"""`layertap cache compact`, `prune` and `merge`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from feature_cache.errors import InvalidChoice
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_table, size_text
from layertap.flags import with_flags
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from feature_cache.maintenance.prune import Removal


def compact(args: argparse.Namespace) -> None:
    from feature_cache.maintenance.compact import compact  # slow to load, and the help does not need it

    cache = shared.cache(args)
    results = {name: compact(cache.open(name), compress=args.compress) for name in args.space or cache.spaces()}
    if args.json:
        print_json({"spaces": [{"space": name, **asdict(result)} for name, result in results.items()]})
        return
    cells = [
        (
            name,
            f"{result.rows:,}",
            result.copies_dropped or "-",
            f"{result.segments_before} -> {result.segments_after}",
            f"{size_text(result.bytes_before)} -> {size_text(result.bytes_after)}",
        )
        for name, result in results.items()
    ]
    print_table(("space", "rows", "copies dropped", "segments", "size"), cells)


def prune(args: argparse.Namespace) -> None:
    from feature_cache.maintenance.prune import candidates, remove  # slow to load, and the help does not need it
    from transfer.engines import openvino_upkeep

    cache = shared.cache(args)
    removals = candidates(
        cache, spaces=args.space, older_than=args.older_than, max_bytes=args.max_size, cited=args.cited
    )
    if args.older_than is not None or args.max_size is not None or not args.space:
        converted = openvino_upkeep.candidates(older_than=args.older_than, max_bytes=args.max_size)
    else:  # only what is named
        converted = []
    kept = [removal for removal in removals if removal.cited_by and not args.cited]
    chosen = [removal for removal in removals if removal not in kept]
    listed = [*chosen, *converted]
    if args.json and not args.yes:
        print_json({"removed": [], "would_remove": _listed(listed), "kept": _listed(kept)})
        return
    if not args.json:
        _print_removals(listed, kept)
    if listed and not args.yes:
        _ask()
    remove(chosen)
    openvino_upkeep.remove(converted)
    if args.json:
        print_json({"removed": _listed(listed), "kept": _listed(kept)})
    elif listed:
        print(f"Removed {size_text(sum(removal.bytes for removal in listed))}.")


def merge(args: argparse.Namespace) -> int:
    from feature_cache.cache import as_cache  # slow to load, and the help does not need it
    from feature_cache.maintenance.merge import merge

    other = as_cache(args.other)
    if not other.spaces():
        raise InvalidChoice(f"{args.other} is not a cache folder, or holds no features.")
    with ShownProgress("segments", args.quiet) as progress:
        merged = merge(shared.cache(args), other, progress)
    if args.json:
        print_json(asdict(merged))
        return 1 if merged.refused else 0
    for reason in merged.refused:
        print(f"layertap: not taken over: {with_flags(reason)}", file=sys.stderr)
    print(
        f"{merged.rows:,} rows in {merged.segments} segments taken over ({size_text(merged.bytes)}), "
        f"{merged.already_here} segments were here already."
    )
    for name in merged.spaces:
        print(f"  {name}")
    return 1 if merged.refused else 0


def _print_removals(chosen: list[Removal], kept: list[Removal]) -> None:
    for removal in kept:
        runs = ", ".join(removal.cited_by)
        print(f"kept: {removal.name} ({removal.reason}), used by the run {runs}; --cited removes it too")
    if not chosen:
        print("Nothing to remove.")
        return
    cells = [
        (each.name, f"{len(each.files)} files", size_text(each.bytes), each.reason, ", ".join(each.cited_by))
        for each in chosen
    ]
    print_table(("to remove", "", "size", "because", "used by the run"), cells, left=(0, 3, 4))


def _ask() -> None:
    """Ask whether to go on; InvalidChoice where nobody can answer, or the answer is no."""
    if not sys.stdin.isatty():
        raise InvalidChoice("nothing was removed; say --yes to remove what is listed.")
    answer = ""
    with contextlib.suppress(EOFError):
        answer = input("Remove these? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise InvalidChoice("nothing was removed.")


def _listed(removals: list[Removal]) -> list[dict[str, object]]:
    return [
        {
            "name": removal.name,
            "reason": removal.reason,
            "files": [str(file) for file in removal.files],
            "bytes": removal.bytes,
            "cited_by": removal.cited_by,
        }
        for removal in removals
    ]
