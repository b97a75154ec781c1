"""`layertap search`."""

from __future__ import annotations

import argparse
import csv
import shlex
from typing import TYPE_CHECKING

from layertap.commands.arguments import shared
from layertap.commands.terminal.output import output, print_json, print_notes, print_skipped, print_table

if TYPE_CHECKING:
    from layertap.workflows.search import Matches
    from transfer.data.datasets import Dataset


def search(args: argparse.Namespace) -> None:
    from layertap.workflows.search import search  # slow to load, and the help does not need it

    command = shlex.join(shared.extract_command(args))
    matches = search(
        shared.dataset(args),
        shared.request(args),
        _queries(args),
        k=args.k,
        metric=args.metric,
        index=args.index,
        cache=args.cache,
        on_error=args.on_error,
        **shared.extraction_options(args, f"with: {command}"),
    )
    print_notes(matches.notes)
    if args.csv:
        with output(args.csv) as stream:
            csv.writer(stream, lineterminator="\n").writerows(matches.rows())
    if args.page:
        matches.write_page(args.page)
    if args.json:
        print_json(matches.to_json())
        return
    print_skipped(matches.skipped, None)
    _print(matches)
    for file in (args.csv, args.page):
        if file:
            print(f"\nWritten to {file}.")


def _queries(args: argparse.Namespace) -> Dataset:
    # Slow to load, and the help does not need it.
    from layertap.workflows.load_dataset import image_dataset, names_dataset

    if names_dataset(args.query):
        return shared.load_other(args, args.query[0])
    return image_dataset(args.query)


def _print(matches: Matches) -> None:
    """Print a table for each query."""
    labelled = matches.dataset.labels is not None
    by_query = zip(matches.queries.ids, matches.ids, matches.labels, matches.distances.tolist(), strict=True)
    for number, (query, ids, labels, distances) in enumerate(by_query):
        print(f"\n{query}" if number else query)
        rows = [
            (rank, f"{distance:.4f}" if matches.metric == "cosine" else f"{distance:.4g}", name, *([label] * labelled))
            for rank, (name, label, distance) in enumerate(zip(ids, labels, distances, strict=True), 1)
        ]
        print_table(("rank", "distance", "image", *(["class"] * labelled)), rows, left=(2, 3))
