"""`layertap fine-tune`: it trains the last layers of a net, and prints how that went."""

from __future__ import annotations

import argparse
import contextlib
import math
import shlex
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import InvalidChoice
from feature_cache.files.urls import shown
from layertap.commands.arguments import shared
from layertap.commands.arguments.plan_steps import write_plan_of
from layertap.commands.terminal import signals
from layertap.commands.terminal.output import print_json, print_next, print_skipped, write_skipped
from layertap.commands.terminal.scores import print_remarks, print_scores
from layertap.progress.shown import ShownProgress
from layertap.runs import load_run, load_written
from layertap.units import size_text, time_text
from layertap.workflows.fine_tuning import saving
from layertap.workflows.fine_tuning.cost import measure_cost
from layertap.workflows.fine_tuning.plan import Settings, make_plan
from layertap.workflows.fine_tuning.rows import collect_rows
from layertap.workflows.fine_tuning.start import start_from_features, start_from_run
from layertap.workflows.fine_tuning.training import train
from transfer.finetune.recipe import Recipe

SHARED_TRAINING = "run.training"  # the checkpoints of runs that are not named, whatever they will be called

if TYPE_CHECKING:
    from layertap.workflows.fine_tuning.cost import Cost
    from layertap.workflows.fine_tuning.plan import Plan, Settings
    from layertap.workflows.fine_tuning.saving import FineTuned
    from layertap.workflows.fine_tuning.start import Start


def fine_tune(args: argparse.Namespace) -> None:
    """Fine-tune the net that `args` name.

    What is cut, warnings, and what the training will take are printed before the training.
    """
    unnamed = args.out is None
    with shared.named_run(args):
        _fine_tune(args, replace(_settings(args), training=Path(SHARED_TRAINING) if unnamed else None))


def _fine_tune(args: argparse.Namespace, settings: Settings) -> None:
    shared.require_tracking(args)
    progress = partial(ShownProgress, quiet=args.quiet)
    plan = make_plan(shared.dataset(args), _start(args), settings, progress)
    if not args.quiet and not args.json:
        _announce(plan)
    rows = collect_rows(plan, progress)
    print_remarks(rows.notes, rows.warnings)
    if not args.quiet and not args.json:
        _print_cost(measure_cost(plan, rows))
    with _stop_signals() as stopping:
        trainings = train(plan, rows, progress, stopping)
    tuned = saving.save(plan, rows, trainings, name=shown(args.data))
    write_plan_of(args)
    tracked, failure = shared.track(args, load_written(tuned.folder) if args.tracking else None)
    _print_results(args, tuned, tracked)
    if failure:
        raise failure


def _print_results(args: argparse.Namespace, tuned: FineTuned, tracked: str) -> None:
    """Print the scores, what was written and where it is tracked, and what may be done next."""
    write_skipped(tuned.folder / "skipped.csv", tuned.skipped)  # again, with flags in the reasons
    if args.json:
        cut = {"cut": list(tuned.cut.layers), "trained": list(tuned.cut.trained)}
        place = {"tracked": tracked} if args.tracking else {}
        print_json({"run": args.out, **place, **cut, **tuned.metrics})
        return
    print_skipped(tuned.skipped, tuned.folder / "skipped.csv")
    _print_trainings(tuned)
    _print_net(tuned, args.out)
    _print_model(tuned, args.out)
    if tracked:
        print(f"Tracked by {args.tracking}: {tracked}")
    of_run = [args.out, *shared.using_options(args)]
    next_steps = [
        f"{shlex.join(['layertap', 'predict', *of_run])} IMAGE ...",
        f"{shlex.join(['layertap', 'evaluate', *of_run])} DATA",
    ]
    if math.isnan(tuned.difference):  # there is no model.keras
        next_steps.append(shlex.join(["layertap", "export", args.out, "--to", "saved-model", "--out", "saved"]))
    print_next(*next_steps)


def _settings(args: argparse.Namespace) -> Settings:
    """The options of a fine-tuning by the arguments of the command."""
    recipe = {field.name: getattr(args, field.name) for field in fields(Recipe) if field.name != "refit"}
    return Settings(
        out=Path(args.out),
        cache=shared.cache(args),
        recipe=Recipe(**recipe, refit=not args.no_refit),
        protocol=shared.protocol_options(args),
        unfreeze_from=args.unfreeze_from,
        prefix_cache=not args.no_prefix_cache,
        compress=args.compress,
        on_error=args.on_error,
        overwrite=args.overwrite,
        tensorboard=args.tensorboard,
    )


def _start(args: argparse.Namespace) -> Start:
    """The features and the head that are named.

    Raises
    ------
    InvalidChoice
        When both a run and features are named.
    """
    if not args.from_head:
        if args.net_code:
            raise InvalidChoice("--net-code goes with --from-head; name the function as --net.")
        if args.transform_code:
            raise InvalidChoice("--transform-code goes with --from-head; name the function as --transform.")
        return start_from_features(shared.request(args), args.seed)
    defaults: dict[str, Any] = {"space": None, **shared.FEATURES}
    others = [name for name, default in defaults.items() if getattr(args, name) != default]
    others = [name for name in others if name not in ("views", "augment")]
    if others:
        raise InvalidChoice(f"--from-head {args.from_head} says which features; leave out --{others[0]}.")
    run = load_run(args.from_head, **shared.code(args))
    return start_from_run(run, views=args.views, augmentation=shared.augmentation(args))


def _announce(plan: Plan) -> None:
    """Print what is trained and what is kept, before the training."""
    cut, network, request = plan.cut, plan.tuner.network, plan.start.request
    layers = f"{len(cut.trained)} layer{'s' * (len(cut.trained) != 1)}"
    if len(plan.candidates) > 1:
        [chosen] = request.layers
        others = " and ".join(name for name in plan.candidates if name != chosen)
        print(f"Layers compared by folds of the images that train: the head reads {chosen}, not {others}.")
    weights = network.weight_count
    count = f"{weights / 1e6:.3g} million" if weights >= 1e4 else f"{weights:,}"
    print(f"Training {cut.trained[0]} and later: {layers}, {count} weights.")
    if network.devices > 1:
        print(f"{network.devices} devices share each step.")
    if not cut.layers:
        print("Nothing is kept of a frozen part: every step starts from the pixels.")
        return
    images, views = len(plan.dataset), request.views
    size = cut.width * np.dtype(request.dtype).itemsize
    shapes = ", ".join(
        f"{layer} ({' x '.join(map(str, shape))})" for layer, shape in zip(cut.layers, cut.shapes, strict=True)
    )
    of_views = f" of {views} views" if views > 1 else ""
    print(
        f"The net is cut at {shapes}: {size_text(size)} an image, {size_text(size * images * views)} in the "
        f"cache for {images} images{of_views}.\nBy the operations an epoch would take {cut.speedup:.1f} times as long "
        "with the frozen part in it."
    )


def _print_cost(cost: Cost) -> None:
    """Print what the training will take, before it begins."""
    print(
        f"Training takes about {time_text(cost.seconds)} at most ({cost.epochs} epochs x "
        f"{time_text(cost.epoch_seconds)}), less where it ends early.",
        flush=True,
    )


def _print_trainings(tuned: FineTuned) -> None:
    """Print the scores of each split, and of all."""
    metrics = tuned.metrics
    for fold, training, number in zip(metrics["folds"], metrics["trainings"], range(1, 11), strict=False):
        valid = fold["valid"]
        print(
            f"split {number}: accuracy {valid['accuracy']:.4f}  log-loss {valid['nll']:.4f}  "
            f"epochs {training['epochs']}  {time_text(valid['fit_seconds'])}"
        )
    parts = dict(metrics["summary"]) | ({"test": metrics["test"]} if "test" in metrics else {})
    print()
    print_scores(list(parts.items()))


def _print_net(tuned: FineTuned, out: str) -> None:
    """Print how long the net in the run was trained, and on which images."""
    images = "all images but those of the test" if "test" in tuned.metrics else "all images"
    if len(tuned.metrics["trainings"]) == 1:
        images = "the training images of the split"
    if tuned.epochs:
        epochs = "1 epoch" if tuned.epochs == 1 else f"{tuned.epochs} epochs"
        print(f"\nThe net in {out} was trained for {epochs} on {images}.")
    elif tuned.hopeless:
        print(
            "\nTraining was ended after a tenth of its steps, when the net did no better than guessing on images held "
            f"out: {out} holds the net as it came, and the head it started from, fitted on {images}."
        )
    else:
        print(
            f"\nNo epoch was clearly better than the head as it was: {out} holds the net as it came, and that head, "
            f"fitted on {images}."
        )


def _print_model(tuned: FineTuned, out: str) -> None:
    """Print how near the exported model is to the run, or why there is none."""
    if tuned.exported:
        print(f"The probabilities of model.keras differ by at most {tuned.difference:.1g} from those of the run.")
        return
    if math.isnan(tuned.difference):
        print(
            "There is no model.keras: some layers of the net cannot be saved and loaded one by one. "
            f"{out} itself is complete, and evaluate and predict take it."
        )
        return
    print(
        f"There is no model.keras: its probabilities differ by up to {tuned.difference:.2g} from those of {out}, "
        f"and may by {saving.TOLERANCE:g}. {out} itself is complete, and evaluate and predict take it. Large weights "
        "of a head magnify rounding; for a model.keras use --from-head with smaller ones (logistic, lower C)."
    )


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM, SIGHUP or Ctrl-C have come since; a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    handled = [number for number in signals.NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
