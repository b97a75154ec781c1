"""Fine-tuning: the last layers of a net are trained, from what the cache holds of the frozen ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice, unknown
from layertap.progress import ProgressBar, progress_bars
from layertap.runs import Run, TrainingReport, load_run, load_written
from layertap.workflows.extract import augmentation_key, cache_for
from layertap.workflows.fine_tuning.plan import Settings, make_plan
from layertap.workflows.fine_tuning.rows import collect_rows
from layertap.workflows.fine_tuning.saving import save
from layertap.workflows.fine_tuning.start import Start, start_from_features, start_from_run
from layertap.workflows.fine_tuning.training import train
from layertap.workflows.load_dataset import Source, load_dataset
from layertap.workflows.training.protocol_options import ProtocolOptions
from transfer.extraction.feature_set import FeatureSet
from transfer.finetune.recipe import Recipe
from transfer.request import FeatureRequest

RECIPE = tuple(field.name for field in fields(Recipe))
PROTOCOL = tuple(field.name for field in fields(ProtocolOptions))


def fine_tune(
    data: Source,
    features: FeatureSet | FeatureRequest | None = None,
    *,
    from_head: Run | str | Path | None = None,
    out: str | Path,
    unfreeze_from: str = "auto",
    views: int = 1,
    augment: str | None = None,
    seed: int = 0,
    prefix_cache: bool = True,
    compress: bool = False,
    on_error: str = "fail",
    tensorboard: bool = False,
    cache: FeatureCache | str | Path | None = None,
    overwrite: bool = False,
    progress: bool | ProgressBar = True,
    stopping: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Run:
    """Train the last layers of a net, and a linear head on them, and write the run.

    The frozen layers are computed once for each image: the cache keeps their activations. A head is fitted first, and
    the net is trained from there. The scores are those of images that were held out.

    Parameters
    ----------
    data : Dataset, or anything that `layertap.load_dataset` takes
        Images with classes.
    features : FeatureSet or FeatureRequest, optional
        The features to start from, as `extract` returns them; a ridge classifier is fitted on them first. Of several
        layers the one is taken on which that classifier is best, by folds of the images that train. A request without
        layers stands for the customary layer and, unless `unfreeze_from` names a layer, the last one of the stage
        before.
    from_head : Run or path, optional
        A run whose features and kind of head are the start, in place of `features`.
    out : path
        The folder of the run. Its checkpoints are in ``{out}.training`` until the run is whole: after an interruption
        the same call goes on from there.
    unfreeze_from : str
        The first layer that is trained, by name or index; ``all``; or ``auto``, the last layers that make up 60 % of
        the operations.
    views, augment
        The number of views of each image and how they differ (see `extract`), with `from_head`.
    seed : int
        The seed of the splits, of the order of images and of the views.
    prefix_cache : bool
        Keep the activations of the frozen layers; otherwise every step computes them from the pixels.
    compress : bool
        Compress what is kept.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    tensorboard : bool
        Write logs for TensorBoard into the run.
    cache : FeatureCache or path, optional
        By default that of `features`, or the default cache.
    overwrite : bool
        Replace a run in `out`.
    progress : bool or callable
        Whether to show bars; or a callable that receives what is counted and returns a context manager, which gives a
        callable of (done, total).
    stopping : callable
        It is called after each step, and says whether training is to stop.
    **options
        The parameters of `Recipe` (``epochs``, ``batch_size``, ``learning_rate``, ``lora`` …) and of
        `ProtocolOptions` (``cv``, ``valid``, ``test``, ``groups`` …), by their names.

    Returns
    -------
    Run
        With a `report` of what was noticed.

    Raises
    ------
    InvalidChoice, BadData
        When options contradict each other, or do not go with the net or the data.
    TrainingStopped
        When `stopping` said so.
    StorageFailure
        When the disk does not take what is to be kept.

    Examples
    --------
    >>> tuned = fine_tune("photos", from_head="runs/head", epochs=5, out="runs/tuned")  # doctest: +SKIP
    """
    settings = Settings(
        out=Path(out),
        cache=cache_for(features, cache),
        recipe=Recipe(seed=seed, **_take(options, RECIPE)),
        protocol=ProtocolOptions(seed=seed, **_take(options, PROTOCOL)),
        unfreeze_from=unfreeze_from,
        prefix_cache=prefix_cache,
        compress=compress,
        on_error=on_error,
        overwrite=overwrite,
        tensorboard=tensorboard,
    )
    if options:
        raise unknown("fine_tune has no option", next(iter(options)), (*RECIPE, *PROTOCOL))
    bars = progress_bars(progress)
    plan = make_plan(load_dataset(data), _start(features, from_head, views, augment, seed), settings, bars)
    rows = collect_rows(plan, bars)
    tuned = save(
        plan, rows, train(plan, rows, bars, stopping), name=str(data) if isinstance(data, (str, Path)) else None
    )
    layer = plan.start.request.layers[0]
    report = TrainingReport(layer, {}, len(rows.labels), tuned.skipped, rows.notes, rows.warnings)
    return replace(load_written(tuned.folder), report=report)


def _start(
    features: FeatureSet | FeatureRequest | None,
    from_head: Run | str | Path | None,
    views: int,
    augment: str | None,
    seed: int,
) -> Start:
    """The features and the head that the arguments of `fine_tune` name."""
    if from_head is None:
        if features is None:
            raise InvalidChoice("fine-tuning starts from features or from a run; pass `features` or `from_head`.")
        if views != 1 or augment is not None:
            raise InvalidChoice("the views are part of `features`; leave out `views` and `augment`.")
        return start_from_features(_request_of(features), seed)
    if features is not None:
        raise InvalidChoice("the run names the features that its head reads; leave out `features` or `from_head`.")
    run = from_head if isinstance(from_head, Run) else load_run(from_head)
    return start_from_run(run, views=views, augmentation=augmentation_key(augment, views, seed))


def _request_of(features: FeatureSet | FeatureRequest) -> FeatureRequest:
    """The request that gives the features."""
    if isinstance(features, FeatureRequest):
        return features
    if features.request is None:
        raise InvalidChoice("these `features` do not name their net; pass what `extract` returned, or a request.")
    return features.request


def _take(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Remove the options of these names, and return them."""
    return {name: options.pop(name) for name in names if name in options}
