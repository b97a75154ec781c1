"""`layertap predict`."""

from __future__ import annotations

import argparse
import csv
from functools import partial
from typing import TYPE_CHECKING

from feature_cache.errors import InvalidChoice
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import output, print_json, print_notes, print_skipped
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from transfer.data.datasets import Dataset


def predict(args: argparse.Namespace) -> None:
    from layertap.runs import load_run  # slow to load, and the help does not need it
    from layertap.workflows.predict import predict

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
    with output(args.out) as stream:
        csv.writer(stream, lineterminator="\n").writerows(predictions.rows())
    if args.out:
        images = "1 image" if len(predictions) == 1 else f"{len(predictions):,} images"
        print(f"What is predicted of {images} is in {args.out}.")


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
