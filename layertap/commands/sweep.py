"""`layertap sweep`; the columns of its table are `COLUMNS` of `layertap.workflows.sweep`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from feature_cache.errors import InvalidChoice
from feature_cache.files.checked import read_json
from feature_cache.files.urls import shown
from feature_cache.spec import PREPROCESSINGS
from layertap.commands.arguments import shared
from layertap.commands.arguments.plan_steps import write_plan_of
from layertap.commands.terminal.output import print_json, print_next, print_skipped, print_table
from layertap.commands.terminal.scores import print_remarks
from layertap.flags import with_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layertap.workflows.sweep import SweepResult
    from layertap.workflows.training.readouts import Readout

SHOWN = 20  # the rows of the table that are printed
# Arguments that are parameters of the workflow by the same name.
OPTIONS = (
    "join", "fit", "fill", "interpolation", "precision", "dtype", "views", "prefix_tokens", "augment", "cv",
    "valid", "per_class", "draws", "repeats", "splits", "groups", "together", "seed", "jobs", "cache", "ray",
    "on_error", "out",
)  # fmt: skip
# Options of splits that train-head has by the same names, with their defaults.
SPLITS = {
    "valid": None, "per_class": None, "draws": 20, "repeats": 1, "splits": None, "groups": None, "together": "exact",
}  # fmt: skip


def sweep(args: argparse.Namespace) -> None:
    from layertap.workflows.sweep import sweep  # slow to load, and the help does not need it

    if args.out is None:
        args.out = next(name for name in shared.numbered("sweep") if not _is_of_others(Path(name), shown(args.data)))
    nets = _nets(args)
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
        transform=args.transform,
        layers=args.layer,
        pools=args.pool,
        sizes=args.size,
        grid=dict(args.grid),
        name=shown(args.data),
        **shared.extraction_options(args, "with `extract=True`"),
        **{option: getattr(args, option) for option in OPTIONS},
    )
    write_plan_of(args)
    print_remarks(result.notes, result.warnings)
    if args.json:
        report = result.to_json()
        print_json({**report, "pairs": [{**row, "error": with_flags(row["error"])} for row in report["pairs"]]})
        return
    print_skipped(result.skipped, None)
    _print(result)
    print_next(shlex.join(_train_command(args, result)))


def _is_of_others(folder: Path, data: str) -> bool:
    """Whether a folder holds the results of another data set; a sweep of the same one goes on there."""
    try:
        results = read_json(folder / "sweep.json")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return not isinstance(results, dict) or results.get("data") != data


def _nets(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(args.net or [shared.DEFAULT_NET]))


def _preprocessing(args: argparse.Namespace, nets: list[str]) -> dict[str, str | None]:
    """The preprocessing of each net."""
    values = shared.values_of_nets(args.preprocessing, nets)
    for value in values.values():
        if value not in (None, *PREPROCESSINGS):
            known = ", ".join(PREPROCESSINGS)
            raise InvalidChoice(f"--preprocessing {value}: give one of {known}, or NET=P for a net of --net.")
    return values


def _train_command(args: argparse.Namespace, result: SweepResult) -> list[str]:
    """The command that trains the best head on the best features, judged on the same splits."""
    from layertap.workflows.sweep import SEEDS  # slow to load, and the help does not need it

    assert result.winner is not None
    words = _features(args, result.winner.readouts) + ["--head", result.winner.pair.head]
    for name, value in result.winner.pair.params:
        if name not in SEEDS:
            words += ["--param", f"{name}={value}"]
    chosen = {"cv": result.protocol.get("cv"), **{name: getattr(args, name) for name in SPLITS}}
    for name, value in chosen.items():
        if value != SPLITS.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--seed", str(args.seed)] if args.seed and "--seed" not in words else []
    return [*words, "--out", shared.free_name("run")]


def _features(args: argparse.Namespace, readouts: Sequence[Readout]) -> list[str]:
    """The words of the command up to the features: those of one net by its name, those of others by their spaces."""
    net, request = readouts[0].net, readouts[0].request
    layers = [readout.layer for readout in readouts if readout.net == net]
    chosen = {"net": net, "layer": layers, "size": request.size if args.size else None, "space": None}
    chosen |= {"pool": request.pooling if args.pool else None}
    for name in ("weights", "preprocessing"):
        chosen[name] = shared.values_of_nets(getattr(args, name), _nets(args))[net]
    program, _, data, *rest = shared.extract_command(argparse.Namespace(**{**vars(args), **chosen}))
    words = [program, "train-head", data, *rest, *(["--join"] if len(layers) > 1 else [])]
    for readout in readouts:
        if readout.net != net:
            words += ["--beside", readout.space]
    return words


def _print(result: SweepResult) -> None:
    """Print the best rows of the table, the pairs that failed, and what to expect of the best pair."""
    from layertap.workflows.sweep import COLUMNS  # slow to load, and the help does not need it

    rows = result.rows
    print_table(list(COLUMNS), result.table()[:SHOWN], left=(0, 1))
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} more")
    for row in rows:
        if row["error"]:
            print(f"{row['features']} with {row['head']} failed: {with_flags(row['error'])}")
    print(f"\nBest: {result.best['features']} with {result.best['head']}. {result.outlook}")
    print(f"All in {result.folder}: sweep.csv, sweep.json, sweep.png (* is on the front of accuracy against cost).")
