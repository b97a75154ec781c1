"""`layertap predict`."""

from __future__ import annotations

import argparse
import csv
import sys
from functools import partial
from typing import TYPE_CHECKING

from feature_cache.errors import InvalidChoice
from layertap import flags
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import counted, output, print_json, print_notes, print_skipped, print_table
from layertap.progress.shown import ShownProgress
from layertap.shown_scores import REGRESSION

if TYPE_CHECKING:
    from transfer.data.datasets import Dataset


def predict(args: argparse.Namespace) -> None:
    from layertap.runs import load_run  # slow to load, and the help does not need it
    from layertap.workflows.predict import predict

    flags.mention("--net")  # of other commands: a note names it
    run = load_run(args.run, **shared.code(args))
    progress = partial(ShownProgress, quiet=args.quiet)
    predictions = predict(
        run, _images(args), cache=args.cache, on_error=args.on_error, heat_maps=args.heat_maps, progress=progress
    )
    print_notes(predictions.notes)
    if args.json:
        with output(args.out) as stream:
            print_json(predictions.to_json(), stream)
        return
    print_skipped(predictions.skipped, None)
    if args.out is None and sys.stdout.isatty():
        head, *rows = predictions.rows(rounded=True)
        print_table(head, rows, left=(0, 1) if predictions.task != REGRESSION else (0,))
        return
    with output(args.out) as stream:
        csv.writer(stream, lineterminator="\n").writerows(predictions.rows())
    if args.out is not None and not args.quiet:  # not on stdout, which may be the file
        print(f"{counted(len(predictions))} predicted; written to {args.out}.", file=sys.stderr)


def _images(args: argparse.Namespace) -> Dataset:
    """The images that are named, as files or as one data set."""
    # It is slow to load, and the help does not need it.
    from layertap.workflows.load_dataset import image_dataset, names_dataset

    if names_dataset(args.image):
        args.data = args.image[0]
        return shared.dataset(args)
    if args.split is not None or args.range is not None:
        raise InvalidChoice("--split and --range go with a data set, not with image files; leave them out.")
    if args.crops:
        raise InvalidChoice("--crops goes with the annotation file of a data set, not with image files; leave it out.")
    return shared.read_as(args, image_dataset(args.image))
