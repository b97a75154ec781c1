"""`layertap train-head`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.files.urls import shown
from layertap.commands.arguments import shared
from layertap.commands.arguments.plan_steps import write_plan_of
from layertap.commands.terminal.output import print_json, print_next, print_skipped, time_text, write_skipped
from layertap.commands.terminal.scores import headline_text, print_remarks, print_scores
from layertap.few_images import note_on
from layertap.report import background
from layertap.report.run_report import REPORT_FILE
from layertap.shown_scores import ANOMALIES
from transfer.nets.user_nets import is_code

if TYPE_CHECKING:
    from layertap.runs import Run

MOST_SPLITS = 10  # that are printed
# Arguments that are parameters of the workflow by the same name.
OPTIONS = (
    "regression", "multilabel", "normal", "calibrate", "join", "beside", "average_views", "cv",
    "valid", "per_class", "draws", "repeats", "test", "splits", "groups", "together", "curve", "seed", "map",
    "on_error", "out", "overwrite", "cache",
)  # fmt: skip


def train_head(args: argparse.Namespace) -> None:
    background.prepare()  # it imports matplotlib while this process imports scikit-learn
    with shared.named_run(args):
        _train_head(args)


def _train_head(args: argparse.Namespace) -> None:
    from layertap.workflows.train_head import train_head  # slow to load, and the help does not need it

    shared.require_tracking(args)
    command = shlex.join(shared.extract_command(args))
    run = train_head(
        shared.dataset(args),
        shared.request(args),
        args.head,
        params=dict(args.param),
        grid=dict(args.grid),
        name=shown(args.data),
        **shared.extraction_options(args, f"with: {command}"),
        **{option: getattr(args, option) for option in OPTIONS},
    )
    write_plan_of(args)
    tracked, failure = shared.track(args, run)
    _print_results(args, run, tracked)
    if failure:
        raise failure


def _print_results(args: argparse.Namespace, run: Run, tracked: str) -> None:
    """Print what was noticed, the scores, where the run is tracked, and what may be done next."""
    assert run.report is not None
    print_remarks(run.report.notes, run.report.warnings)
    write_skipped(Path(args.out) / "skipped.csv", run.report.skipped)  # again, with flags in the reasons
    if args.json:
        place = {"tracked": tracked} if args.tracking else {}
        print_json({"run": args.out, **place, "spec": json.loads(run.spec.to_json()), **run.metrics})
        return
    print_skipped(run.report.skipped, Path(args.out) / "skipped.csv")
    _print_run(run)
    if tracked:
        print(f"Tracked by {args.tracking}: {tracked}")
    of_run = [args.out, *shared.using_options(args)]
    if args.net and is_code(args.net):
        of_run += ["--net-code", args.net]
    print_next(
        shlex.join(["layertap", "predict", *of_run]) + " IMAGE ...",
        shlex.join(["layertap", "evaluate", *of_run]) + " DATA",
    )


def _print_run(run: Run) -> None:
    """Print the scores of a run, and what it is made of."""
    report, metrics = run.report, run.metrics
    assert report is not None
    _print_folds(metrics, run.task.name, several=len(run.config.candidates or ()) > 1)
    if few := note_on(metrics, report.images):
        print(f"\n{few}")
    for point in metrics.get("curve", []):
        mean, deviation = point["accuracy"]["mean"], point["accuracy"]["std"]
        print(f"{point['per_class']} labelled images per class: accuracy {mean:.4f} ± {deviation:.4f}")
    if "each" in metrics:
        print()
        print_scores(list(metrics["each"].items()))
    if report.tried:
        print(f"\n{report.tried}")
    if report.params:
        print(f"\nChosen: {', '.join(f'{name}={value}' for name, value in report.params.items())}.")
    whole = f"all {report.images:,} images" + (" but those of the test" if metrics.get("test") else "")
    if run.task.name == ANOMALIES:
        whole = f"the images of {run.task.labels[0]}" + (" but those of the test" if metrics.get("test") else "")
    nets = " and ".join(dict.fromkeys(shown(str(net["name"])) for _, net in run.parts))
    print(f"\nThe head in {run.folder} reads {report.features} of {nets} and is fitted on {whole}.")
    if metrics["extraction_seconds"] is not None:
        print(f"Its features took {time_text(metrics['extraction_seconds'])} to extract.")
    print(f"\nPictures and all scores: {run.folder}/{REPORT_FILE}")


def _print_folds(metrics: dict[str, Any], task: str, several: bool) -> None:
    """Print a line for each of the first splits, and the table of their means."""
    for fold, number in zip(metrics["folds"], range(1, MOST_SPLITS + 1), strict=False):
        reads = f"  reads {fold['features']}" if several else ""
        chosen = "".join(f"  {name}={value}" for name, value in fold["params"].items())
        scores = headline_text(fold["valid"], task)
        print(f"split {number}: {scores}{reads}{chosen}")
    if len(metrics["folds"]) > MOST_SPLITS:
        print(f"... and {len(metrics['folds']) - MOST_SPLITS} more")
    print()
    parts = dict(metrics["summary"])
    if len(metrics["folds"]) > 1:
        parts["bagged"] = metrics["bagged"][-1]
    if "test" in metrics:
        parts["test"] = metrics["test"]
    print_scores(list(parts.items()))
