"""Writing the run of a net that was fine-tuned."""

from __future__ import annotations

import contextlib
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadData, StorageFailure, WrongResult
from feature_cache.files.digest_list import digest_keys
from feature_cache.lineage import extraction_seconds
from heads.evaluation.views import Views
from heads.linear.head import LinearHead
from heads.registry import record
from layertap import runs
from layertap.analysis.projections import Projection, project
from layertap.held_out import HeldOut
from layertap.report import plots
from layertap.report.map_page import prediction_columns
from layertap.report.run_pictures import RunResults, illustrate, pictures_of
from layertap.report.tabs.feature_map import FeatureMapPicture, mistakes_first
from layertap.run_config import FeatureSource, HeadConfig, RunConfig, TaskConfig, origin_of
from layertap.workflows.export import IMAGES, TOLERANCE, build_model, compare_with_run
from layertap.workflows.fine_tuning.plan import Plan
from layertap.workflows.fine_tuning.rows import TrainingRows
from layertap.workflows.fine_tuning.training import Trainings
from transfer.data.datasets import Unreadable
from transfer.data.transforms import names_of
from transfer.export import comparison
from transfer.export.formats import FORMATS
from transfer.finetune.cut_choice import Cut
from transfer.finetune.saved_net import save_net
from transfer.request import FeatureRequest, request_for

MODEL_FILE = "model.keras"
TRAINING = "training.png"
# The largest differences between the probabilities of the network that was trained and those of the run that was
# written, in float32 and in fewer bits: engines do not compute exactly the same.
SAME, SAME_ROUNDED = 1e-3, 0.1
SEEN = (
    "The features are those of the net that is kept, which was trained with most of these images: new ones will lie "
    "less clearly apart."
)


@dataclass(frozen=True)
class FineTuned:
    """A run that was written, and how its training went.

    Attributes
    ----------
    folder : Path
        The folder of the run.
    cut : Cut
    metrics : dict
        The content of ``metrics.json``: among others ``summary``, ``folds`` and ``trainings``.
    epochs : int
        The number of epochs that the net was trained for; with 0 it stayed as it was.
    hopeless : bool
        Whether the last choice of a number of epochs was ended after a tenth of its steps.
    difference : float
        How far the probabilities of ``model.keras`` are from those of the run.
    exported : bool
        Whether there is a ``model.keras``: it is left out where `difference` is too large, or NaN.
    skipped : tuple of Unreadable
        The images that could not be read.
    """

    folder: Path
    cut: Cut
    metrics: dict[str, Any]
    epochs: int
    hopeless: bool
    difference: float
    exported: bool
    skipped: tuple[Unreadable, ...]


def save(plan: Plan, data: TrainingRows, trainings: Trainings, *, name: str | None = None) -> FineTuned:
    """Write the run of a net that was fine-tuned, and remove its checkpoints.

    Parameters
    ----------
    plan, data, trainings
        See `make_plan`, `collect_rows` and `train`.
    name : str, optional
        What the run calls the data set; by default the data set's own name.

    Raises
    ------
    StorageFailure
        When the run cannot be written; the checkpoints are kept.
    WrongResult
        When the run that was written gives other probabilities than the network that was trained.
    """
    try:
        saved = _write(plan, data, trainings, name or plan.dataset.name)
    except StorageFailure as error:
        raise StorageFailure(
            f"{error} What was trained is in {plan.settings.training_folder}; make room, and the same command goes on "
            "from there."
        ) from error
    _forget(plan)
    return saved


def _write(plan: Plan, data: TrainingRows, trainings: Trainings, name: str) -> FineTuned:
    """Write the run, and compare it with the network that was trained."""
    settings, tuner, head = plan.settings, plan.tuner, _linear_head(plan)
    metrics = _metrics(plan, data, trainings)
    images = data.seen.union(digest_keys(data.trained_on))
    with runs.new_run(settings.out, overwrite=settings.overwrite) as folder:
        net = save_net(tuner.network.backbone, folder)
        # The run computes in float32, whatever the net was trained in: its weights are float32.
        request = replace(plan.start.probe_request, precision="float32", net=net)
        config = _config(plan, data, request, head, trainings, name)
        net_images = images if tuner.epochs_ else data.seen
        held_out = _held_out(data, trainings)
        runs.write(folder, head, config, metrics, images, net_images, held_out=held_out)
        plots.training_curves(folder / TRAINING, trainings.stages, f"{name}: {plan.start.request.net.name}")
        _illustrate(folder, data, trainings, metrics, config, held_out, _map(plan, data, held_out))
        runs.write_skipped(folder, data.features.skipped)
        _require_same(folder, plan, data)
        difference, exported = _write_model(folder, data)
        if settings.logs_folder.is_dir():
            shutil.copytree(settings.logs_folder, folder / "tensorboard")
    skipped = tuple(data.features.skipped)
    hopeless = [training["hopeless"] for training in trainings.trainings if training["stages"][0]][-1:] == [True]
    return FineTuned(settings.out, plan.cut, metrics, tuner.epochs_, hopeless, difference, exported, skipped)


def _linear_head(plan: Plan) -> LinearHead:
    """The dense layer of the network, as a head."""
    kernel, bias = plan.tuner.network.dense.get_weights()
    head = LinearHead()
    head.coef_, head.intercept_ = kernel.T.astype(np.float64), bias.astype(np.float64)
    head.classes_, head.n_features_in_ = plan.tuner.classes_, kernel.shape[0]
    return head


def _metrics(plan: Plan, data: TrainingRows, trainings: Trainings) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    evaluation = trainings.evaluation
    metrics: dict[str, Any] = {"summary": evaluation.summary(), "folds": evaluation.folds}
    metrics["bagged"] = evaluation.bagged(data.labels)
    metrics["trainings"] = trainings.trainings
    metrics["extraction_seconds"] = extraction_seconds(data.rows) if plan.cut.layers else None
    if trainings.test:
        metrics["test"] = trainings.test
    return metrics


def _config(
    plan: Plan, data: TrainingRows, request: FeatureRequest, head: LinearHead, trainings: Trainings, name: str
) -> RunConfig:
    """How the run was made; `request` is of the features that the head reads of the net that was tuned."""
    start, tuner = plan.start, plan.tuner
    seconds = trainings.trainings[-1]["seconds"]
    return RunConfig(
        parts=(FeatureSource(request.specs[0], runs.net_config(request.net)),),
        task=TaskConfig(),
        head=replace(HeadConfig(**record("linear", head)), fit_seconds=seconds),
        candidates=plan.candidates if len(plan.candidates) > 1 else None,
        fine_tuned={
            "net": start.request.net.as_config(),
            "probe": {"name": start.head, "params": start.params},
            "trained": list(plan.cut.trained),
            "cut": list(plan.cut.layers),
            "epochs": tuner.epochs_,
            "recipe": tuner.recipe.as_dict(),
            "augmentation": start.request.augmentation,
            "views": start.request.views,
        },
        protocol=plan.settings.protocol.to_json(data.protocol),
        views=Views(),
        data={
            "name": name,
            "images": len(data.labels),
            "classes": tuner.classes_.tolist(),
            **origin_of(plan.dataset),
        },
        skipped=tuple(image.id for image in data.features.skipped),
        transforms=names_of(request.specs),
    )


def _held_out(data: TrainingRows, trainings: Trainings) -> HeldOut:
    """What was predicted of the images held out."""
    classes, features = np.unique(data.labels).tolist(), data.features
    return HeldOut.of(features.dataset.ids, features.digests, data.labels, classes, trainings.evaluation)


def _map(plan: Plan, data: TrainingRows, held_out: HeldOut) -> FeatureMapPicture:
    """The images by what the classifier of the trained net reads; computed of those alone that the report shows."""
    dataset, tuner = data.features.dataset, plan.tuner
    columns = prediction_columns(data.labels, held_out.names, held_out.outputs, held_out.splits)
    rows = mistakes_first(dataset, columns["result"])
    places = project(tuner.features(data.rows, rows * plan.start.request.views))
    note = SEEN if tuner.epochs_ else ""
    return FeatureMapPicture(Projection(rows, places.points, places.axes), note=note)


def _illustrate(
    folder: Path,
    data: TrainingRows,
    trainings: Trainings,
    metrics: dict[str, Any],
    config: RunConfig,
    held_out: HeldOut,
    feature_map: FeatureMapPicture,
) -> None:
    """Draw the pictures of the run, and write its report."""
    assert config.data is not None
    names = tuple(np.unique(data.labels).tolist())
    features, evaluation = next(iter(data.features.features.values())), trainings.evaluation
    results = RunResults(
        config.data["name"],
        "fine-tuned",
        data.features.dataset,
        data.labels,
        names,
        features,
        evaluation,
        metrics,
        config,
        feature_map=feature_map,
        digests=data.features.digests,
        skipped=data.features.skipped,
        held_out=held_out,
    )
    illustrate(folder, results, pictures_of(results))


def _require_same(folder: Path, plan: Plan, data: TrainingRows) -> None:
    """Raise WrongResult unless the run gives the probabilities of the network that was trained, on some images."""
    run, request, dataset = runs.load_written(folder), plan.start.request, data.features.dataset
    chosen = comparison.evenly_spaced(len(dataset), IMAGES)
    pixels = comparison.readable_pixels(dataset.select(chosen), run.spec)
    features = comparison.compute_features(pixels, [request_for(run.spec, run.nets[0])])
    trained = plan.tuner.predict_proba(data.rows[chosen * request.views])
    difference = comparison.largest_difference(run.head.predict_proba(features), trained)
    full = request.precision == request.dtype == "float32"
    if not difference <= (SAME if full else SAME_ROUNDED):
        raise WrongResult(
            f"the net that was written gives other probabilities than the one that was trained: they differ by up to "
            f"{difference:.2g}. Nothing was written; please report this."
        )


def _write_model(folder: Path, data: TrainingRows) -> tuple[float, bool]:
    """Write the run as one Keras model, unless its probabilities are farther from the run's than exports may be.

    Returns
    -------
    difference : float
        How far they are apart, on some images; NaN where Keras cannot load the model again.
    exported : bool
        Whether the model was written.
    """
    run, file = runs.load_written(folder), folder / MODEL_FILE
    requests, model = build_model(run)
    try:
        FORMATS["keras"].write(model, file)
        predict = FORMATS["keras"].read(file)
    except BadData:  # some layers of KerasHub cannot be saved and loaded one by one
        file.unlink(missing_ok=True)
        return math.nan, False
    compared = compare_with_run(run, requests, predict, data.features.dataset)
    exported = compared.difference <= TOLERANCE
    if not exported:
        file.unlink()
    return compared.difference, exported


def _forget(plan: Plan) -> None:
    """Remove the checkpoints and logs of a training, and the folder unless it holds anything else."""
    folder = plan.settings.training_folder
    for file in plan.tuner.checkpoints if plan.settings.training else folder.glob("*.npz"):
        file.unlink(missing_ok=True)
    shutil.rmtree(plan.settings.logs_folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
