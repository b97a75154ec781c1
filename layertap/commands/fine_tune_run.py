"""The run that fine-tuning leaves behind."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import WrongResult
from feature_cache.files.checked import real_path
from layertap.commands import problem
from layertap.commands.terminal.output import print_json, print_skipped, time_text
from layertap.commands.terminal.scores import print_scores
from layertap.workflows.export import IMAGES, build_model, compare_with_run
from layertap.workflows.export import TOLERANCE as EXPORTED

if TYPE_CHECKING:
    from heads.evaluation.cross_validation import Evaluation
    from heads.evaluation.protocol import Protocol
    from transfer.data.datasets import Dataset
    from transfer.extraction.feature_set import FeatureSet
    from transfer.extraction.request import FeatureRequest
    from transfer.finetune.cut import Cut
    from transfer.finetune.tuner import FineTuner

# Between probabilities of what was trained and what was written: engines, and fewer bits, are not exact.
TOLERANCE, ROUNDED = 1e-3, 0.1


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts: features, and a head that reads them."""

    request: FeatureRequest
    head: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What the trainings on the splits gave: scores, how each went, and the scores of the test images, if any."""

    evaluation: Evaluation
    trainings: list[dict[str, Any]]
    test: dict[str, Any] | None


def plain(request: FeatureRequest) -> FeatureRequest:
    """The features that the probe reads: those of the plain images."""
    return replace(request, augmentation=None, views=1, dtype="float32")


def unfinished(out: Path) -> Path:
    """Where is kept how far training is."""
    out = real_path(out)
    return out.with_name(f"{out.name}.training")


def _forget(folder: Path) -> None:
    """Remove what training has kept, and the folder unless it holds anything else."""
    for file in folder.glob("*.npz"):
        file.unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def finish(
    args: argparse.Namespace,
    start: Start,
    cut: Cut,
    tuner: FineTuner,
    rows: Any,
    judged: Judged,
    cached: FeatureSet,
    protocol: Protocol,
    seen: frozenset[bytes],
    trained_on: np.ndarray,
) -> None:
    """Write the run, and say how it went.

    Parameters
    ----------
    seen : frozenset of bytes
        What the images that the net had been trained on before are known by.
    trained_on : ndarray of shape (n, k, 16), uint8
        What those that it was trained on now are known by (see `transfer.data.groups.identity_digests`).
    """
    from feature_cache.files.digest_list import digest_keys
    from feature_cache.maintenance.lineage import extraction_seconds
    from heads.evaluation.views import Views
    from heads.linear.head import LinearHead
    from heads.registry import record
    from layertap import runs
    from layertap.report import plots
    from layertap.report.run_pictures import RunResults, illustrate
    from layertap.run_config import FeatureSource, HeadConfig, RunConfig, TaskConfig
    from transfer.data.datasets import require_labels
    from transfer.finetune.saved_net import save_net

    out, labels = Path(args.out), require_labels(cached.dataset)
    evaluation, trainings, test = judged.evaluation, judged.trainings, judged.test
    head = LinearHead()
    kernel, bias = tuner.network.dense.get_weights()
    head.coef_, head.intercept_ = kernel.T.astype(np.float64), bias.astype(np.float64)
    head.classes_, head.n_features_in_ = tuner.classes_, kernel.shape[0]
    metrics: dict[str, Any] = {"summary": evaluation.summary(), "folds": evaluation.folds}
    metrics["bagged"] = evaluation.bagged(labels)
    metrics["trainings"] = trainings
    metrics["extraction_seconds"] = extraction_seconds(rows) if cut.layers else None
    if test:
        metrics["test"] = test
    with runs.new_run(out, overwrite=args.overwrite) as folder:
        # In float32, whatever it was trained in: weights are.
        request = replace(plain(start.request), precision="float32", net=save_net(tuner.network.backbone, folder))
        seconds = trainings[-1]["seconds"]
        config = RunConfig(
            parts=(FeatureSource(request.specs[0], runs.net_config(request.net)),),
            task=TaskConfig(),
            head=replace(HeadConfig(**record("linear", head)), fit_seconds=seconds),
            fine_tuned={
                "net": start.request.net.as_config(),
                "probe": {"name": start.head, "params": start.params},
                "trained": list(cut.trained),
                "cut": list(cut.layers),
                "epochs": tuner.epochs_,
                "recipe": tuner.recipe.as_dict(),
                "augmentation": start.request.augmentation,
                "views": start.request.views,
            },
            protocol=problem.as_dict(args, protocol),
            views=Views(),
            data={"name": args.data, "images": len(labels), "classes": tuner.classes_.tolist()},
            skipped=tuple(image.id for image in cached.skipped),
        )
        images = seen.union(digest_keys(trained_on))
        runs.write(folder, head, config, metrics, images, net_images=images if tuner.epochs_ else seen)
        names, features = tuple(np.unique(labels).tolist()), next(iter(cached.features.values()))
        plots.training_curves(folder / "training.png", tuner.stages_, f"{args.data}: {start.request.net.name}")
        results = RunResults(
            args.data, "fine-tuned", cached.dataset, labels, names, features, evaluation, metrics, config
        )
        illustrate(folder, results, map_method=None)
        runs.write_skipped(folder, cached.skipped)
        _require_same(folder, tuner, rows, cached.dataset, start.request)
        difference = _write_model(folder, cached.dataset)
        logs = unfinished(out) / "tensorboard"
        if logs.is_dir():
            shutil.copytree(logs, folder / "tensorboard")
    _forget(unfinished(out))
    if args.json:
        print_json({"run": args.out, "cut": list(cut.layers), "trained": list(cut.trained), **metrics})
        return
    print_skipped(cached.skipped, out / "skipped.csv")
    for fold, training, number in zip(evaluation.folds, trainings, range(1, 11), strict=False):
        valid = fold["valid"]
        print(
            f"split {number}: accuracy {valid['accuracy']:.4f}  log-loss {valid['nll']:.4f}  "
            f"epochs {training['epochs']}  {time_text(valid['fit_seconds'])}"
        )
    parts = dict(metrics["summary"]) | ({"test": test} if test else {})
    print()
    print_scores(list(parts.items()))
    whole = "all images but those of the test" if test else "all images"
    if len(evaluation.folds) == 1:
        whole = "the training images of the split"
    if tuner.epochs_:
        epochs = "1 epoch" if tuner.epochs_ == 1 else f"{tuner.epochs_} epochs"
        print(f"\nThe net in {args.out} was trained for {epochs} on {whole}.")
    else:
        print(f"\nNo epoch was clearly better than the head as it was: {args.out} holds that, and the net as it came.")
    if difference <= EXPORTED:
        print(f"The probabilities of model.keras differ by at most {difference:.1g} from those of the run.")
    else:
        print(
            f"There is no model.keras: its probabilities differ by up to {difference:.2g} from those of {args.out}, "
            f"and may by {EXPORTED:g}. {args.out} itself is complete, and evaluate and predict take it. Large weights "
            "of a head magnify rounding; for a model.keras use --from-head with smaller ones (logistic, lower C)."
        )


def _require_same(folder: Path, tuner: FineTuner, rows: Any, dataset: Dataset, request: FeatureRequest) -> None:
    """Raise WrongResult unless the run that was written says of some images what the network that was trained does."""
    from layertap import runs
    from transfer.export import comparison
    from transfer.extraction.request import request_for
    from transfer.nets.catalogue import net_from_config

    run = runs.load_run(folder)
    [(spec, net)] = run.parts
    chosen = comparison.evenly_spaced(len(dataset), IMAGES)
    pixels = comparison.readable_pixels(dataset.select(chosen), spec)
    features = comparison.compute_features(pixels, [request_for(spec, net_from_config(net, folder))])
    trained = tuner.predict_proba(rows[chosen * request.views])
    apart = comparison.largest_difference(run.head.predict_proba(features), trained)
    full = request.precision == request.dtype == "float32"
    if not apart <= (TOLERANCE if full else ROUNDED):
        raise WrongResult(
            f"the net that was written gives other probabilities than the one that was trained: they differ by up to "
            f"{apart:.2g}. Nothing was written; please report this."
        )


def _write_model(folder: Path, dataset: Dataset) -> float:
    """Write ``model.keras``, from pixels to probabilities, unless these are farther from the run's than exports may be.

    Returns
    -------
    float
        How far they are, on some images.
    """
    from layertap import runs
    from transfer.export import formats

    run = runs.load_run(folder)
    requests, model = build_model(run)
    file, kind = folder / "model.keras", formats.FORMATS["keras"]
    kind.write(model, file)
    _, _, difference = compare_with_run(run, requests, kind.read(file), dataset)
    if not difference <= EXPORTED:
        file.unlink()
    return difference
