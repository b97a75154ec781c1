"""`layertap ramp test` and `layertap ramp leaderboard`."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice, unknown
from feature_cache.files.atomic import new_file
from layertap.commands.terminal.output import print_json, print_table, time_text
from layertap.ramp.problem import submissions
from layertap.ramp.transforms.code_loading import BadSubmission
from layertap.ramp.trials.keras2_compat import outdated
from layertap.ramp.trials.runner import TrialRunner

TABLE = "leaderboard.csv"
SHOWN = 20  # lines about images
MISFIT = "is incompatible with the layer: expected "  # what Keras says of images that are no input of a net


def test(args: argparse.Namespace) -> int:
    folder = Path(args.kit)
    names = submissions(folder)
    if args.quick_test:
        os.environ["RAMP_TEST_MODE"] = "1"
    runner = _runner(args)
    chosen = args.submission or names
    if not chosen:
        raise InvalidChoice(f"{folder} has no submissions; write one with: layertap ramp init {folder}")
    for name in chosen:
        if name not in names:
            raise unknown(f"{folder} has no submission", name, names)
    _print_lines(runner.lines)
    failed = {}
    for name in chosen:
        if not args.old_keras:
            old = [line for file in sorted((folder / "submissions" / name).glob("*.py")) for line in outdated(file)]
            _print_lines([line.replace(f"{folder}{os.sep}", "", 1) for line in old])
            if old:
                _print_lines(["--old-keras translates such calls, arguments and shapes, and stands in for modules."])
        try:
            runner.run(name, old_keras=args.old_keras)
        except BadSubmission as error:
            failed[name] = str(error)
            _print_lines([f"layertap: {error}"])
            if not args.old_keras and MISFIT in str(error):
                _print_lines(
                    ["If the net was written for an image_data_format of channels_first, --old-keras runs it so."]
                )
    ranked = runner.rank()
    if args.json:
        print_json({**ranked, "failed": failed, "images": runner.lines})
    else:
        _print(ranked)
    _keep(folder, ranked)
    return 1 if failed or runner.incomplete else 0


def leaderboard(args: argparse.Namespace) -> None:
    ranked = _runner(args).rank()
    if args.json:
        print_json(ranked)
    else:
        if not ranked["submissions"]:
            print(f"No submission has been tested; do so with: layertap ramp test {args.kit}")
        _print(ranked)
    _keep(Path(args.kit), ranked)


def _runner(args: argparse.Namespace) -> TrialRunner:
    return TrialRunner(Path(args.kit), sys.stderr if args.json else None)


def _print_lines(lines: list[str]) -> None:
    sys.stdout.flush()
    for line in lines[:SHOWN]:
        print(line, file=sys.stderr)
    if len(lines) > SHOWN:
        print(f"and {len(lines) - SHOWN} more.", file=sys.stderr)


def _rows(ranked: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of plain values for each submission."""
    rows = []
    for place, entry in enumerate(ranked["submissions"], 1):
        row = {"place": place, "submission": entry["name"]}
        for score in ranked["scores"]:
            row[score], row[f"{score} sd"] = entry["mean"][score], entry["sd"][score]
        for score, value in (entry["test"] or {}).items():
            row[f"bagged test {score}"] = value
        row |= {"train seconds": entry["train_seconds"], "test seconds": entry["test_seconds"]}
        rows.append({**row, "Pareto front": entry["pareto"], "contributivity": entry["contributivity"]})
    return rows


def _keep(folder: Path, ranked: dict[str, Any]) -> None:
    rows = _rows(ranked)
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with new_file(folder / TABLE, "the leaderboard") as stream:
            stream.write(text.getvalue().encode())


def _print(ranked: dict[str, Any]) -> None:
    scores, entries = ranked["scores"], ranked["submissions"]
    if entries:
        tested = entries[0]["test"] is not None
        head = ["submission", *scores, *([f"bagged test {scores[0]}"] if tested else [])]
        lines = []
        for entry in entries:
            line = [entry["name"]]
            for one in scores:
                spread = f" ± {entry['sd'][one]:.4f}" if entry["folds"] > 1 else ""
                line.append(f"{entry['mean'][one]:.4f}{spread}")
            line += [f"{entry['test'][scores[0]]:.4f}"] if tested else []
            line += [time_text(entry["train_seconds"]), time_text(entry["test_seconds"])]
            lines.append([*line, "yes" if entry["pareto"] else "", f"{100 * entry['contributivity']:.0f} %"])
        bagged = "; on the test images, of the mean of all folds' predictions" if tested else ""
        print(f"\nLeaderboard: means over the folds, of the parts held out{bagged}")
        print_table([*head, "train time", "test time", "Pareto front", "contributes"], lines)
        for part, blend in ranked["blend"].items():
            text = "  ".join(f"{name} {value:.4f}" for name, value in blend.items())
            print(f"The best blend, on the {part} images: {text}")
    if ranked["stale"]:
        names = ", ".join(ranked["stale"])
        print(f"Left out, since they or the kit have changed since they were tested: {names}")
