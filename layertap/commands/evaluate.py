"""`layertap evaluate`."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from feature_cache.files.urls import shown
from layertap import flags
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_skipped
from layertap.commands.terminal.scores import print_classes, print_remarks, print_scores
from layertap.few_images import few_images_note
from layertap.progress.shown import ShownProgress


def evaluate(args: argparse.Namespace) -> None:
    from layertap.results import skipped_to_json  # slow to load, and the help does not need it
    from layertap.runs import load_run
    from layertap.workflows.evaluate import evaluate

    flags.mention("--net")  # of other commands: a note names it
    run = load_run(args.run, **shared.code(args))
    progress = partial(ShownProgress, quiet=args.quiet)
    result = evaluate(run, shared.dataset(args), cache=args.cache, on_error=args.on_error, progress=progress)
    print_remarks(result.notes, result.warnings)
    if args.page:
        result.write_page(args.page)
    if args.json:
        skipped = skipped_to_json(result.skipped)
        about = {"run": args.run, "data": shown(args.data)}
        print_json({**about, "test": result.scores, "classes": result.classes, "skipped": skipped})
        return
    print_skipped(result.skipped, None)
    if result.unknown:
        of_classes = run.task.name == "classes"
        what, then = ("classes", "count as mistakes") if of_classes else ("labels", "are left out")
        names = ", ".join(result.unknown[:5])
        print(f"{what} unknown to the head ({len(result.unknown)}) {then}: {names}", file=sys.stderr)
    print_scores([("test", result.shown)])
    if few := few_images_note(result.scores.get("accuracy"), result.images):
        print(f"\n{few}")
    if result.classes:
        print()
        print_classes(result.classes)
    if args.page:
        print(f"\nWritten to {args.page}.")
