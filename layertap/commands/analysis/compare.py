"""`layertap compare`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_notes, print_table
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from layertap.workflows.compare import RunComparison, Similarity

SHOWN = 10  # of the images that only one run gets right


def compare(args: argparse.Namespace) -> None:
    # Slow to load, and the help does not need it.
    from layertap.runs import is_run
    from layertap.workflows.compare import compare_runs, compare_spaces
    from transfer.request import FeatureRequest

    options: dict[str, Any] = {"cache": args.cache, "on_error": args.on_error}
    options["progress"] = partial(ShownProgress, quiet=args.quiet)
    names = [args.first, args.second, *args.more]
    if len(names) == 2 and all(is_run(Path(name)) for name in names):
        runs = compare_runs(shared.dataset(args), *names, **options)
        print_notes(runs.notes)
        _report(args, runs, _print_runs)
        return
    parts = [shared.net_and_layer(name, args.seed) for name in names]
    requests = [FeatureRequest(net, (layer,) if layer else ()) for net, layer in parts]
    _report(args, compare_spaces(shared.dataset(args), requests, seed=args.seed, **options), _print_spaces)


def _report(args: argparse.Namespace, found: Any, show: Any) -> None:
    if args.json:
        print_json(found.to_json())
    else:
        show(found)


def _print_runs(found: RunComparison) -> None:
    numbers = found.comparison
    low, high = numbers.interval
    rows = [
        ("images", f"{numbers.images:,}"),
        *((f"accuracy of {name}", f"{value:.4f}") for name, value in zip(found.runs, numbers.accuracy, strict=True)),
        ("difference", f"{numbers.difference:+.4f} (95 % from {low:+.4f} to {high:+.4f})"),
        ("p-value of McNemar's test", f"{numbers.p_value:.4g}"),
        ("agreement", f"{numbers.agreement:.4f}"),
        ("Cohen's kappa", f"{numbers.kappa:.4f}"),
    ]
    print_table(("", ""), rows, left=(0, 1))
    for name, ids in zip(found.runs, (found.only_first, found.only_second), strict=True):
        print(f"\nOnly {name} predicts correctly: {len(ids):,}")
        for one in ids[:SHOWN]:
            print(f"  {one}")
        if len(ids) > SHOWN:
            print(f"  ... and {len(ids) - SHOWN:,} more; --json lists all")


def _print_spaces(found: Similarity) -> None:
    tables = (
        (f"Linear CKA, {found.images:,} images", found.cka),
        (f"Linear CKA by the unbiased estimator, {found.sample:,} images", found.unbiased_cka),
        (f"RSA (Spearman), {found.sample:,} images", found.rsa),
    )
    for number, (title, table) in enumerate(tables):
        print(f"\n{title}" if number else title)
        rows = [(name, *(f"{value:.3f}" for value in line)) for name, line in zip(found.spaces, table, strict=True)]
        print_table(("", *found.spaces), rows)
