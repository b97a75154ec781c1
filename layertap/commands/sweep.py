"""`layertap sweep`."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from feature_cache.errors import InvalidChoice
from feature_cache.spec import PREPROCESSINGS
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_next, print_skipped, print_table
from layertap.commands.terminal.scores import print_remarks
from layertap.flags import with_flags

if TYPE_CHECKING:
    from layertap.workflows.sweep import SweepResult, Winner

SHOWN = 20  # the rows of the table that are printed
# Arguments that are parameters of the workflow by the same name.
OPTIONS = (
    "join", "fit", "interpolation", "precision", "dtype", "views", "prefix_tokens", "augment", "cv", "valid",
    "per_class", "draws", "repeats", "splits", "groups", "together", "seed", "jobs", "cache", "on_error", "out",
)  # fmt: skip


def sweep(args: argparse.Namespace) -> None:
    from layertap.workflows.sweep import sweep  # slow to load, and the help does not need it

    nets = list(dict.fromkeys(args.net or [shared.DEFAULT_NET]))
    decoding = shared.decoding(args)
    result = sweep(
        shared.dataset(args),
        nets,
        args.head or ("auto", "ridge", "knn"),
        weights=shared.values_of_nets(args.weights, nets),
        preprocessing=_preprocessing(args, nets),
        alpha=decoding.alpha,
        pages=decoding.pages,
        window=decoding.window,
        layers=args.layer,
        pools=args.pool,
        sizes=args.size,
        grid=dict(args.grid),
        name=args.data,
        **shared.extraction_options(args, "with `extract=True`"),
        **{option: getattr(args, option) for option in OPTIONS},
    )
    print_remarks(result.notes, result.warnings)
    if args.json:
        report = result.to_json()
        print_json({**report, "pairs": [{**row, "error": with_flags(row["error"])} for row in report["pairs"]]})
        return
    print_skipped(result.skipped, None)
    _print(result)
    if command := _train_command(args, result.winner):
        print_next(shlex.join(command))


def _preprocessing(args: argparse.Namespace, nets: list[str]) -> dict[str, str | None]:
    """The preprocessing of each net."""
    values = shared.values_of_nets(args.preprocessing, nets)
    for value in values.values():
        if value not in (None, *PREPROCESSINGS):
            known = ", ".join(PREPROCESSINGS)
            raise InvalidChoice(f"--preprocessing {value}: give one of {known}, or NET=P for a net of --net.")
    return values


def _train_command(args: argparse.Namespace, winner: Winner | None) -> list[str]:
    """The command that trains the best head on the best features; none where these come from several nets."""
    from layertap.workflows.sweep import SEEDS  # slow to load, and the help does not need it

    if winner is None or len({readout.net for readout in winner.readouts}) > 1:
        return []
    request, pair, net = winner.readouts[0].request, winner.pair, winner.readouts[0].net
    layers = [readout.layer for readout in winner.readouts]
    chosen = {"net": net, "layer": layers, "size": request.size if args.size else None, "space": None}
    chosen |= {"pool": request.pooling if args.pool else None}
    for name in ("weights", "preprocessing"):
        chosen[name] = shared.values_of_nets(getattr(args, name), [net])[net]
    program, _, data, *rest = shared.extract_command(argparse.Namespace(**{**vars(args), **chosen}))
    words = [program, "train-head", data, *rest, *(["--join"] if len(layers) > 1 else []), "--head", pair.head]
    for name, value in pair.params:
        if name not in SEEDS:
            words += ["--param", f"{name}={value}"]
    words += ["--cv", str(args.cv)] if args.cv else []
    words += ["--seed", str(args.seed)] if args.seed and "--seed" not in words else []
    return [*words, "--out", "run"]


def _print(result: SweepResult) -> None:
    """Print the best rows of the table, the pairs that failed, and what to expect of the best pair."""
    from layertap.workflows.sweep import COLUMNS  # slow to load, and the help does not need it

    rows, expected = result.rows, result.expected
    print_table(list(COLUMNS), result.table()[:SHOWN], left=(0, 1))
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} more")
    for row in rows:
        if row["error"]:
            print(f"{row['features']} with {row['head']} failed: {with_flags(row['error'])}")
    print(
        f"\nBest: {result.best['features']} with {result.best['head']}. The best of {len(rows)} looks better than it "
        f"is: expect an accuracy of {expected['accuracy']:.4f} ({expected['low']:.4f} to {expected['high']:.4f})."
    )
    print(f"All in {result.folder}: sweep.csv, sweep.json, sweep.png (* is on the front of accuracy against cost).")
