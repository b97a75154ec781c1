"""The run that fine-tuning leaves behind."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commands import problem
from commands.output import print_json, print_skipped, time_text, write_skipped
from commands.scores import print_scores

if TYPE_CHECKING:
    from heads.evaluation import Evaluation
    from heads.training import Protocol
    from transfer.datasets import DataSet
    from transfer.finetune.cutting import Cut
    from transfer.finetune.tuner import FineTuner
    from transfer.lookup import Cached
    from transfer.request import Request


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts: features, and a head that reads them."""

    request: Request
    head: str
    params: dict[str, Any]


def plain(request: Request) -> Request:
    """The features that the probe reads: those of the plain images."""
    return replace(request, augmentation=None, views=1, dtype="float32")


def unfinished(out: Path) -> Path:
    """Where is kept how far training is."""
    return out.with_name(f"{out.name}.training")


def finish(
    args: argparse.Namespace,
    start: Start,
    cut: Cut,
    tuner: FineTuner,
    evaluation: Evaluation,
    trainings: list[dict[str, Any]],
    test: dict[str, Any] | None,
    cached: Cached,
    labels: np.ndarray,
    protocol: Protocol,
) -> None:
    """Write the run, and say how it went."""
    from commands.illustrate import illustrate
    from heads import plots, runs
    from heads.linear import LinearHead
    from heads.registry import record
    from heads.training import Trained
    from heads.views import Views
    from transfer.finetune.keeping import config_of, keep

    out = Path(args.out)
    head = LinearHead()
    kernel, bias = tuner.network.dense.get_weights()
    head.coef_, head.intercept_ = kernel.T.astype(np.float64), bias.astype(np.float64)
    head.classes_, head.n_features_in_ = tuner.classes_, kernel.shape[0]
    metrics: dict[str, Any] = {"summary": evaluation.summary(), "folds": evaluation.folds}
    metrics["bagged"] = evaluation.bagged(labels)
    metrics["trainings"] = trainings
    metrics["extraction_seconds"] = None
    if test:
        metrics["test"] = test
    with runs.new_run(out, overwrite=args.overwrite) as folder:
        request = replace(plain(start.request), net=keep(start.request.backbone, folder))
        seconds = evaluation.folds[-1]["valid"]["fit_seconds"]
        config: dict[str, Any] = {
            "spec": json.loads(request.specs[0].to_json()),
            "net": config_of(request.net),
            "task": problem.described(problem.CLASSES, [], ()),
            "head": {**record("linear", head), "fit_seconds": seconds},
            "fine_tuned": {
                "net": start.request.net.as_config(),
                "probe": {"name": start.head, "params": start.params},
                "trained": list(cut.trained),
                "cut": list(cut.layers),
                "epochs": tuner.epochs_,
                "recipe": tuner.recipe.as_dict(),
                "augmentation": start.request.augmentation,
                "views": start.request.views,
            },
            "protocol": {**protocol.as_dict(), **({"groups": args.groups} if args.groups else {})},
            "views": asdict(Views()),
            "data": {"name": args.data, "images": len(labels), "classes": tuner.classes_.tolist()},
            "skipped": [image.id for image in cached.skipped],
        }
        runs.write(folder, head, config, metrics)
        trained = Trained(head, next(iter(cached.features)), {}, seconds, evaluation, test)
        names = tuple(np.unique(labels).tolist())
        args.head, args.map = "fine-tuned", None
        plots.training_curves(folder / "training.png", tuner.stages_, f"{args.data}: {start.request.net.name}")
        illustrate(folder, args, trained, cached, labels, names, Views(), metrics, config)
        write_skipped(folder / "skipped.csv", cached.skipped)
        difference = _write_model(folder, tuner, cached.dataset)
        logs = unfinished(out) / "tensorboard"
        if logs.is_dir():
            shutil.copytree(logs, folder / "tensorboard")
    shutil.rmtree(unfinished(out), ignore_errors=True)
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
    whole = "the training images of the split" if len(evaluation.folds) == 1 else "all images but those of a test"
    print(
        f"\nThe net in {args.out} was trained for {tuner.epochs_} epochs on {whole}. The probabilities of model.keras "
        f"differ by at most {difference:.1g} from those of the run."
    )


def _write_model(folder: Path, tuner: FineTuner, dataset: DataSet) -> float:
    """Write ``model.keras``, from pixels to probabilities; how far it is from what was trained, on some images.

    Raises
    ------
    WrongResult
        When the file, the run and the network that was trained do not say the same.
    """
    from commands.export_run import model_of, stitched
    from heads import runs
    from transfer import formats

    run = runs.read(folder)
    requests, model = model_of(run)
    file = folder / "model.keras"
    kind = formats.FORMATS["keras"]
    kind.write(model, file)
    return stitched(run, requests, kind.read(file), dataset)[2]
