"""`layertap extract`."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.files.urls import shown
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import (
    print_json,
    print_next,
    print_skipped,
    print_table,
    size_text,
    time_text,
    write_skipped,
)
from layertap.commands.terminal.scores import print_remarks
from layertap.progress.shown import ShownProgress

if TYPE_CHECKING:
    from transfer.extraction.plan import Plan
    from transfer.extraction.report import Report


def extract(args: argparse.Namespace) -> None:
    # Inside the function: what computes features takes longer to import than the help takes to show.
    from layertap.workflows.extract import compute_missing, shard_of
    from transfer.extraction.plan import plan
    from transfer.nets.suggestion import FOR_PHOTOGRAPHS, remarks_of, remarks_on

    dataset, request, cache = shared.dataset(args), shared.request(args), shared.cache(args)
    if args.shard is not None:
        dataset = shard_of(dataset, args.shard, request, cache, requantise=args.requantise)
        if not args.json:
            _print_shard(args.shard, len(dataset))
    if args.plan:
        notes, warnings = remarks_of([request.net])
        print_remarks([*remarks_on(request.net, dataset), *notes], warnings)
        found = plan(dataset, request, cache, args.batch_size, args.engine, args.on_error)
        _print_plan(found, asdict(found) | _shard_as_json(args.shard, len(dataset)) if args.json else None)
        return
    options = {name: getattr(args, name) for name in ("batch_size", "engine", "devices", "ray", "on_error", "compress")}
    progress = partial(ShownProgress, quiet=args.quiet)
    report = compute_missing(dataset, request, cache, progress=progress, requantise=args.requantise, **options)
    part = "" if args.shard is None else "-{}-of-{}".format(*args.shard)  # each part has a list of its own
    skipped_file = cache.root / f"skipped-{_plain(Path(shown(args.data)))[:60]}{part}.csv"
    write_skipped(skipped_file, report.skipped)
    print_remarks(report.remarks, report.warnings)
    if args.json:
        print_json(_as_json(report) | _shard_as_json(args.shard, len(dataset)))
    else:
        print_skipped(report.skipped, skipped_file)
        _print_report(report)
        if args.shard is not None:
            print(f"Once all parts are done, this computes nothing: {shlex.join(shared.extract_command(args))}")
        elif dataset.labels is not None:
            program, _, *words = shared.extract_command(args)
            commands = [[program, "train-head", *words, "--out", shared.free_name("run")]]
            if remarks_on(request.net, dataset):
                better: dict[str, Any] = {"net": FOR_PHOTOGRAPHS, "layer": [], "size": None, "space": None}
                commands.insert(0, shared.extract_command(argparse.Namespace(**{**vars(args), **better})))
            print_next(*map(shlex.join, commands))


def _print_shard(shard: tuple[int, int], images: int) -> None:
    number, count = shard
    print(f"Part {number} of {count} (the last is {count - 1}): {images:,} image{'s' * (images != 1)}.")


def _shard_as_json(shard: tuple[int, int] | None, images: int) -> dict[str, Any]:
    """What the report says of the part that was computed; nothing where it was all."""
    return {} if shard is None else {"shard": {"part": shard[0], "parts": shard[1], "images": images}}


def _as_json(report: Report) -> dict[str, Any]:
    """The report in the form that it has always had: warnings are among the remarks."""
    content = asdict(report)
    warnings = content.pop("warnings")
    return {**content, "remarks": content["remarks"] + warnings}


def _print_report(report: Report) -> None:
    rate = f" ({_rate(report.images_per_second)} images/s)" if report.rows_computed else ""
    print(
        f"{report.rows_computed:,} rows computed, {report.rows_reused:,} reused, {report.rows_skipped:,} skipped "
        f"in {time_text(report.seconds)}{rate}, "
        f"{size_text(report.bytes_written)} written:"
    )
    for space in report.spaces:
        print(f"  {space}")
    if report.engine:
        _print_times(report)


def _plain(data: Path) -> str:
    """The name of a data set, in characters that every file system takes."""
    name = data.stem if data.suffix.lower() == ".csv" else data.name
    return re.sub("[^A-Za-z0-9_.-]+", "-", name)


def _print_times(report: Report) -> None:
    if report.note:
        print(f"Note: {report.note}.")
    if report.started_from:
        print(f"Computed from the stored features of {' and '.join(report.started_from)} where there were some.")
    waited = ", ".join(f"{time_text(seconds)} to {what}" for what, seconds in report.waited.items() if seconds >= 0.05)
    alone = ""
    if report.peak:
        # A few images are all read while the engine starts: then the two rates do not compare.
        seconds = report.seconds - report.waited["prepare"]
        rate = report.images_per_second * report.seconds / seconds if seconds > 0 else 0.0
        if 0.01 <= rate / report.peak <= 1:
            alone = f", {_rate(report.peak)} images/s where it waits for nothing"
    print(f"Engine {report.engine}, batches of {report.batch_size}{alone}; waited {waited}.")


def _rate(images_per_second: float) -> str:
    """In whole images, but for few."""
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"


def _print_plan(plan: Plan, as_json: dict[str, Any] | None) -> None:
    if as_json is not None:
        print_json(as_json)
        return
    rows = [
        (part.space, part.rows_total, part.rows_present, part.rows_missing, size_text(part.row_bytes or 0))
        for part in plan.spaces
    ]
    print_table(("space", "rows", "present", "missing", "a row"), rows)
    if plan.started_from:
        print(f"Stored features of {' and '.join(plan.started_from)} serve to compute them from.")
    if plan.unreadable:
        images = "1 image" if plan.unreadable == 1 else f"{plan.unreadable:,} images"
        print(f"{images} cannot be read (see --on-error).")
    if plan.images_missing:
        cost = f"about {time_text(plan.seconds)} and {size_text(plan.bytes)}"
        print(f"\nTo compute: {plan.images_missing:,} images, {cost}.")
    else:
        print("\nNothing to compute.")
