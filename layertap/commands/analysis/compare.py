"""`layertap compare`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_notes, print_table
from layertap.commands.terminal.scores import print_scores
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from layertap.workflows.compare import Similarity
    from layertap.workflows.comparing.runs import RunComparison

SHOWN = 10  # of the images that only one run gets right


def compare(args: argparse.Namespace) -> None:
    # Slow to load, and the help does not need it.
    from layertap.runs import is_run
    from layertap.workflows.compare import compare_spaces
    from layertap.workflows.comparing.runs import compare_runs
    from transfer.request import FeatureRequest

    options: dict[str, Any] = {"cache": args.cache, "on_error": args.on_error}
    options["progress"] = partial(ShownProgress, quiet=args.quiet)
    names = [args.first, args.second, *args.more]
    if all(is_run(Path(name)) for name in names):
        runs = compare_runs(shared.dataset(args), names, **options)
        print_notes(runs.notes)
        _report(args, runs, _print_runs)
        return
    parts = [shared.net_and_layer(name, args.seed) for name in names]
    requests = [FeatureRequest(net, (layer,) if layer else ()) for net, layer in parts]
    _report(args, compare_spaces(shared.dataset(args), requests, seed=args.seed, **options), _print_spaces)


def _report(args: argparse.Namespace, found: Any, show: Any) -> None:
    if args.page:
        found.write_page(args.page)
    if args.json:
        print_json(found.to_json())
        return
    show(found)
    if args.page:
        print(f"\nWritten to {args.page}.")


def _print_runs(found: RunComparison) -> None:
    # It is slow to load, and the help does not need it.
    from layertap.report.compare_page import PAIR_COLUMNS, pair_rows, run_facts

    print_scores(list(zip(found.runs, found.scores, strict=True)))
    print()
    if len(found.runs) > 2:
        print_table(PAIR_COLUMNS, pair_rows(found))
        return
    print_table(("", ""), run_facts(found), left=(0, 1))
    print(f"\n{found.comparison.sentence(*found.runs)}")
    for name, ids in zip(found.runs, (found.only_first, found.only_second), strict=True):
        print(f"\nPredicted correctly by {name} alone: {len(ids):,}")
        for one in ids[:SHOWN]:
            print(f"  {one}")
        if len(ids) > SHOWN:
            print(f"  ... and {len(ids) - SHOWN:,} more; --json lists all")


def _print_spaces(found: Similarity) -> None:
    from layertap.report.compare_page import space_tables  # slow to load, and the help does not need it

    for number, (title, table) in enumerate(space_tables(found)):
        print(f"\n{title}" if number else title)
        rows = [(name, *(f"{value:.3f}" for value in line)) for name, line in zip(found.spaces, table, strict=True)]
        print_table(("", *found.spaces), rows)
