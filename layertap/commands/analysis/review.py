"""`layertap review`."""

from __future__ import annotations

import argparse
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from feature_cache.files.atomic import check_free, whole_folder
from layertap import flags
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_next, print_notes, print_table
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from layertap.workflows.review import Review

SHOWN = 10  # of a kind
TITLES = {
    "label": "labels that are likely wrong",
    "ambiguous": "images that could be of another class",
    "copy": "copies",
    "near-duplicate": "near-duplicates",
    "outlier": "images unlike all others",
    "decided": "decided before",
}


def review(args: argparse.Namespace) -> None:
    # Slow to load, and the help does not need them.
    from layertap.report.review_page import PAGE, TABLE, is_review, write_review
    from layertap.report.tabs.recipe import corrected_command
    from layertap.runs import load_run
    from layertap.workflows.review import review

    flags.mention("--cv")  # of train-head: an error names it
    out = Path(args.out)
    check_free(out, "review", is_review, overwrite=args.overwrite)
    run = load_run(args.run, **shared.code(args))
    progress = partial(ShownProgress, quiet=args.quiet)
    found = review(run, shared.optional_dataset(args), cache=args.cache, progress=progress)
    with whole_folder(out, "review", is_review, overwrite=args.overwrite) as folder:
        found.to_csv(folder / TABLE)
        write_review(folder / PAGE, found)
    if args.json:
        print_json({"run": args.run, "out": args.out, **found.to_json()})
        return
    print_notes(found.notes)
    _print(found)
    print(
        f"\n{out / PAGE} shows all of them with their images; decide there, or in the column action of {out / TABLE}."
    )
    again = corrected_command(run.config, run.metrics, str(out / TABLE), f"{args.run.rstrip('/')}-corrected")
    print_next(shlex.join(again or ["layertap", "train-head", found.data.name, "--corrections", str(out / TABLE)]))


def _print(found: Review) -> None:
    print(f"{found.data.name}: {len(found.data):,} images")
    for kind, title in TITLES.items():
        findings = found.of_kind(kind)
        if kind == "decided" and not findings:
            continue
        print(f"\n{len(findings):,} {title}")
        if not findings:
            continue
        rows = [
            (each.id, each.given, each.suggested, f"{each.score:.3f}", "; ".join(each.reasons)) for each in findings
        ]
        print_table(("image", "label", "suggested", "score", "reason"), rows[:SHOWN], left=(0, 1, 2, 4))
        if len(rows) > SHOWN:
            print(f"... and {len(rows) - SHOWN:,} more")
