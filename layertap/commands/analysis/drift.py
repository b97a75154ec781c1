"""`layertap drift`."""

from __future__ import annotations

import argparse
import csv
import shlex
from typing import TYPE_CHECKING

from layertap.commands.arguments import shared
from layertap.commands.terminal.output import output, print_json, print_notes, print_skipped, print_table

if TYPE_CHECKING:
    from layertap.workflows.drift import Drift

SHOWN = 10  # of the images that are furthest away


def drift(args: argparse.Namespace) -> None:
    from layertap.workflows.drift import drift  # slow to load, and the help does not need it

    command = shlex.join(shared.extract_command(args))
    found = drift(
        shared.dataset(args),
        shared.load_other(args, args.new),
        shared.request(args),
        seed=args.seed,
        cache=args.cache,
        on_error=args.on_error,
        **shared.extraction_options(args, f"with: {command}"),
    )
    print_notes(found.notes)
    if args.csv:
        with output(args.csv) as stream:
            csv.writer(stream, lineterminator="\n").writerows(found.rows())
    if args.page:
        found.write_page(args.page)
    if args.json:
        print_json(found.to_json())
        return
    print_skipped(found.skipped, None)
    _print(found)
    for file in (args.csv, args.page):
        if file:
            print(f"\nWritten to {file}.")


def _print(found: Drift) -> None:
    rows = [
        ("old images", f"{len(found.old):,}"),
        ("new images", f"{len(found.new):,}"),
        ("p-value of the kernel two-sample test", f"{found.test.p_value:.4g}"),
        ("squared maximum mean discrepancy", f"{found.test.mmd2:.4g}"),
        ("further away than 99 % of the old images", f"{found.far:.1%} (1 % without drift)"),
    ]
    print_table(("", ""), rows, left=(0, 1))
    print("\nNew images that are furthest from the old ones")
    head, *lines = found.rows()
    shown = [(name, label, f"{distance:.4g}", f"{rank:.3f}", near) for name, label, distance, rank, near in lines]
    print_table(head, shown[:SHOWN], left=(0, 1, 4))
    if len(shown) > SHOWN:
        print(f"... and {len(shown) - SHOWN:,} more; --csv and --json list all")
