"""`layertap fine-tune`."""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import InvalidChoice, StorageFailure
from feature_cache.files.checked import real_path
from layertap.commands import problem
from layertap.commands.arguments import shared
from layertap.commands.fine_tune_run import Judged, Start, finish, plain, unfinished
from layertap.commands.terminal import signals
from layertap.commands.terminal.output import Progress, size_text

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from heads.splitting.splits import Split
    from transfer.data.datasets import Dataset
    from transfer.extraction.feature_set import FeatureSet
    from transfer.extraction.request import FeatureRequest
    from transfer.finetune.cut import Cut
    from transfer.finetune.recipe import Recipe
    from transfer.finetune.tensorboard import TensorBoardLogs
    from transfer.finetune.tuner import FineTuner
    from transfer.nets.backbone import Backbone

SPARE = 1.05  # of the disk: files are a little larger than the numbers in them


def fine_tune(args: argparse.Namespace) -> None:
    from layertap import runs
    from transfer.data.datasets import require_labels
    from transfer.finetune.cut import find_cut
    from transfer.finetune.devices import share_steps
    from transfer.finetune.tuner import STOPPED, TrainingStopped

    recipe, out = _recipe(args), Path(args.out)
    runs.check_free(out, overwrite=args.overwrite)
    _require_writable(out)
    logs = _tensorboard(args, unfinished(out))
    dataset = shared.dataset(args)
    labels = require_labels(dataset)
    problem.protocol(args, dataset).divide(labels, problem.groups(args, dataset, np.arange(len(labels))))
    share_steps()
    start = _start(args, recipe)
    backbone = start.request.build()
    cut = find_cut(backbone, start.request.specs[0].layer, args.unfreeze_from, keep=not args.no_prefix_cache)
    cache = shared.cache(args)
    dataset = dataset.identify(cache)
    tuner = _tuner(start, backbone, cut, cache, len(np.unique(labels)), recipe, out)
    if not args.quiet and not args.json:
        _announce(cut, backbone, start.request, len(dataset), tuner.network.devices)
    prefix = _prefix(start.request, cut)
    if prefix is not None:
        _require_room(dataset, prefix, cut, cache)
    cached = shared.extracted(args, dataset, plain(start.request), cache, compress=args.compress)
    rows = _rows(args, cached, start.request, prefix, cache)
    labels = require_labels(cached.dataset)
    protocol = problem.protocol(args, cached.dataset)
    groups = problem.groups(args, cached.dataset, problem.copies(args, cached, labels))
    problem.warn_of_parted(protocol, groups)
    divided = protocol.divide(labels, groups)
    splits, fitted, aside = divided
    seen = problem.seen_by([start.request.net])
    images = problem.identities(args, cached)
    problem.warn_of_seen(seen, images, splits, aside)
    trained_on = images[splits[0][0] if len(splits) == 1 else fitted]

    with _asked_to_stop() as stopping, Progress("steps", args.quiet) as progress:
        tuner.stopping, tuner.progress, tuner.on_epoch = stopping, progress, logs or tuner.on_epoch
        begin = logs.begin if logs else lambda: None
        judged = _judge(tuner, rows, labels, groups, divided, start.request.views, begin)
        if stopping():
            raise TrainingStopped(STOPPED)
    if logs:
        logs.close()
    try:
        finish(args, start, cut, tuner, rows, judged, cached, protocol, seen, trained_on)
    except StorageFailure as error:
        raise StorageFailure(
            f"{error} What was trained is in {unfinished(out)}; make room, and the same command goes on from there."
        ) from error


def _require_writable(out: Path) -> None:
    """Raise StorageFailure where the run could not be written in the end."""
    try:
        real_path(out).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=real_path(out).parent):
            pass
    except OSError as error:
        raise StorageFailure(f"cannot write to {out}: {error.strerror or error}; choose another --out.") from error


def _recipe(args: argparse.Namespace) -> Recipe:
    from transfer.finetune.recipe import Recipe

    chosen = {field.name: getattr(args, field.name) for field in fields(Recipe) if field.name != "refit"}
    return Recipe(**chosen, refit=not args.no_refit)


def _start(args: argparse.Namespace, recipe: Recipe) -> Start:
    """The features and the head that were named.

    Raises
    ------
    InvalidChoice
        When the head is no linear one, or reads what cannot be trained.
    """
    from heads.export import affine
    from heads.registry import seeded
    from layertap import runs
    from transfer.extraction.request import request_for
    from transfer.nets.catalogue import net_from_config

    if not args.from_head:
        request = shared.request(args)
        if len(request.specs) > 1:
            raise InvalidChoice("fine-tuning reads one layer; name a single one with --layer.")
        _require_full(request)
        return Start(request, "ridge", seeded("ridge", {}, recipe.seed))
    own = {name: default for name, default in shared.FEATURES.items() if name not in ("views", "augment")}
    given = [name for name, default in {"space": None, **own}.items() if getattr(args, name) != default]
    if given:
        raise InvalidChoice(f"--from-head {args.from_head} says which features; leave out --{given[0]}.")
    run = runs.load_run(args.from_head)
    if run.task.name != problem.CLASSES:
        raise InvalidChoice(f"the run {args.from_head} is one of {run.task.name}; fine-tuning starts from classes.")
    if len(run.parts) > 1:
        raise InvalidChoice(f"the run {args.from_head} joins several features; fine-tuning starts from one layer.")
    affine(run.head)  # says which heads can be part of a net
    spec, config = run.parts[0]
    request = request_for(replace(spec, augmentation=None), net_from_config(config, run.folder))
    _require_full(request)
    key = shared.augmentation(args)
    request = replace(request, augmentation=key, views=args.views)
    return Start(request, run.config.head.name, dict(run.config.head.params))


def _require_full(request: FeatureRequest) -> None:
    """Raise InvalidChoice for a shrunk copy of features."""
    if request.coding is not None:
        raise InvalidChoice("a shrunk copy of features is not fine-tuned from; name the full ones.")


def _prefix(request: FeatureRequest, cut: Cut) -> FeatureRequest | None:
    """What is kept at the cut; None where that is the pixels."""
    return replace(request, layers=cut.layers, pooling="none") if cut.layers else None


def _announce(cut: Cut, backbone: Backbone, request: FeatureRequest, images: int, devices: int) -> None:
    weights = sum(
        math.prod(variable.shape)
        for name in cut.trained
        for variable in backbone.taps[name]._keras_history.operation.trainable_variables
    )
    layers = f"{len(cut.trained)} layer{'s' * (len(cut.trained) != 1)}"
    count = f"{weights / 1e6:.3g} million" if weights >= 1e4 else f"{weights:,}"
    print(f"Training {cut.trained[0]} and later: {layers}, {count} weights.")
    if devices > 1:
        print(f"{devices} devices share each step.")
    if not cut.layers:
        print("Nothing is kept of a frozen part: every step starts from the pixels.")
        return
    each = cut.width * np.dtype(request.dtype).itemsize
    shapes = ", ".join(
        f"{layer} ({' x '.join(map(str, shape))})" for layer, shape in zip(cut.layers, cut.shapes, strict=True)
    )
    views = f" of {request.views} views" if request.views > 1 else ""
    print(
        f"The net is cut at {shapes}: {size_text(each)} an image, {size_text(each * images * request.views)} in the "
        f"cache for {images} images{views}.\nBy the operations an epoch would take {cut.speedup:.1f} times as long "
        "with the frozen part in it."
    )


def _require_room(dataset: Dataset, request: FeatureRequest, cut: Cut, cache: FeatureCache) -> None:
    """Raise StorageFailure when the disk is too small for what is to be kept."""
    from transfer.extraction.lookup import find_missing

    missing = len(find_missing(dataset, request, cache).jobs)
    needed = SPARE * missing * cut.width * np.dtype(request.dtype).itemsize
    place = next(folder for folder in (cache.root.absolute(), *cache.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageFailure(
            f"what is kept at the cut takes {size_text(needed)}, and {place} has {size_text(free)} left: choose "
            "another --cache, --dtype float16, a later --unfreeze-from, or --no-prefix-cache."
        )


def _rows(
    args: argparse.Namespace,
    cached: FeatureSet,
    request: FeatureRequest,
    prefix: FeatureRequest | None,
    cache: FeatureCache,
) -> Any:
    """What the network is trained on: what is kept at the cut, side by side if there are several, or the pixels."""
    from feature_cache.joined import Joined
    from transfer.finetune.pixel_rows import PixelRows

    if prefix is None:
        [features] = cached.features.values()
        return PixelRows(cached.dataset, request, features.keys()[0])
    kept = shared.extracted(args, cached.dataset, prefix, cache, compress=args.compress)
    parts = list(kept.features.values())
    return parts[0] if len(parts) == 1 else Joined(parts)


def _tuner(
    start: Start, backbone: Backbone, cut: Cut, cache: FeatureCache, classes: int, recipe: Recipe, out: Path
) -> FineTuner:
    from heads.export import affine
    from heads.registry import make_head
    from heads.splitting.groups import encode_groups, fit_params, inner_split
    from heads.validation import finite
    from transfer.finetune.network import Network
    from transfer.finetune.tuner import FineTuner

    spec = start.request.specs[0]

    def probe(
        digests: np.ndarray, views: np.ndarray, labels: np.ndarray, together: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        there = views == 0
        rows, labels = cache[plain(start.request).specs[0]].rows(digests[there]), labels[there]
        head: Any = make_head(start.head, start.params)
        with finite(rows):
            found = affine(head.fit(rows[:], labels, **fit_params(head, encode_groups(together[there], labels))))
        return found.coef.T, found.intercept - found.coef @ found.centre

    readout, augments = (spec.layer, spec.pooling, spec.preprocessing), spec.augmentation is not None
    network = Network(backbone, cut, *readout, classes, recipe, augments=augments)
    key = f"{spec.to_json()} {start.head} {sorted(start.params.items())}"
    views = start.request.views

    def split(target: np.ndarray, share: float, seed: int, together: np.ndarray) -> Any:
        return inner_split(target, share, seed, encode_groups(together, target))

    return FineTuner(network, probe, recipe, split, views=views, folder=unfinished(out), key=key)


def _judge(
    tuner: Any,
    rows: Any,
    labels: np.ndarray,
    groups: np.ndarray,
    divided: tuple[list[Split], np.ndarray, np.ndarray],
    views: int,
    begin: Callable[[], None],
) -> Judged:
    """Judge what is trained on each split, and leave the network as it is kept.

    With one split that is what was judged; with several, one more is trained on all images but the test's.
    """
    from heads.evaluation.cross_validation import evaluate
    from heads.evaluation.metrics import score
    from heads.evaluation.views import Views

    made, images, aside = divided
    how, trainings = Views(views), []

    class Noted:
        """The tuner, whose trainings are noted down."""

        reads_batches = reads_keys = True

        def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Any:
            begin()
            tuner.fit(X, y, groups)
            trainings.append({"epochs": tuner.epochs_, "seconds": tuner.seconds_, "stages": tuner.stages_})
            return tuner

    noted: Any = Noted
    evaluation = evaluate({"fine-tuned": rows}, labels, groups, made, noted, views=how)
    for fold, training in zip(evaluation.folds, trainings, strict=True):  # which may have begun in another process
        fold["train"]["fit_seconds"] = fold["valid"]["fit_seconds"] = training["seconds"]
    if len(made) > 1:
        how.fit(noted(), rows, labels, images, groups)
    if not len(aside):
        return Judged(evaluation, trainings, None)
    begun = time.perf_counter()
    said = how.outputs(tuner, rows, aside)
    times = {"fit_seconds": trainings[-1]["seconds"], "predict_seconds": time.perf_counter() - begun}
    return Judged(evaluation, trainings, {**score(tuner.classes_, labels[aside], said), **times})


def _tensorboard(args: argparse.Namespace, folder: Path) -> TensorBoardLogs | None:
    if not args.tensorboard:
        return None
    from transfer.finetune.tensorboard import TensorBoardLogs

    return TensorBoardLogs(folder / "tensorboard")


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM, SIGHUP or Ctrl-C have come since; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    minded = [number for number in signals.NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in minded}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
