"""Training a head on the features of images, judging it on images held out, and writing it as a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from feature_cache.files.digest_list import digest_keys
from feature_cache.joined import Joined
from feature_cache.lineage import Used, extraction_seconds, used
from feature_cache.spec import FeatureSpec
from heads.evaluation.metrics import score_regression
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import Trained, learning_curve, train
from heads.evaluation.views import Views
from heads.registry import make_head, record, seeded
from layertap import runs
from layertap.analysis.projections import require_method
from layertap.held_out import HeldOut
from layertap.progress import ProgressBar, progress_bars
from layertap.report.run_pictures import RunResults, illustrate, pictures_of
from layertap.report.tabs.feature_map import FeatureMapPicture, map_of_features
from layertap.run_config import FeatureSource, HeadConfig, RunConfig, TaskConfig, origin_of
from layertap.runs import Run, TrainingReport
from layertap.workflows.extract import BeforeExtraction, cache_for, stored_or_extracted
from layertap.workflows.load_dataset import Source, load_dataset
from layertap.workflows.training.copies import find_copies, identify, seen_warnings
from layertap.workflows.training.protocol_options import EXACT, ProtocolOptions, parted_notes, training_only_notes
from layertap.workflows.training.targets import (
    ANOMALIES,
    CLASSES,
    MULTILABEL,
    REGRESSION,
    Targets,
    read_targets,
    require_classes,
    task_of_columns,
    task_of_head,
)
from transfer.data.datasets import Dataset
from transfer.data.transforms import names_of
from transfer.extraction.feature_set import FeatureSet
from transfer.nets.catalogue import Net
from transfer.nets.suggestion import remarks_of, suited
from transfer.request import FeatureRequest, request_of

DEFAULT_HEADS = {CLASSES: "auto", REGRESSION: "ridge", MULTILABEL: "logistic"}


@dataclass(frozen=True)
class _HeadChoice:
    """A head by name, its parameters, and the parameters among which every split chooses."""

    name: str
    params: dict[str, Any]
    grid: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The features among which every split chooses, by name; and the specs and nets that each of them comes from.

    `remarks` are those of the extraction, where there was one.
    """

    features: FeatureSet
    sources: dict[str, list[tuple[FeatureSpec, Net]]]
    views: Views
    remarks: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Used, ...]:
        """The rows of the cache that all candidates read."""
        parts = (part for each in self.features.features.values() for part in getattr(each, "parts", [each]))
        return tuple(used(part) for part in parts)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The targets to learn, and the protocol by which heads are judged."""

    targets: Targets
    protocol: Protocol
    options: ProtocolOptions
    groups: np.ndarray
    fitted_rows: np.ndarray
    seen: frozenset[bytes]
    identities: np.ndarray
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def trained_on(self) -> frozenset[bytes]:
        """What the images are recognised by that the head, or the net below it, is trained on."""
        return self.seen.union(digest_keys(self.identities[self.fitted_rows]))


def train_head(
    data: Source,
    features: FeatureSet | FeatureRequest,
    head: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    regression: Sequence[str] = (),
    multilabel: Sequence[str] = (),
    normal: str | None = None,
    calibrate: bool = False,
    join: bool = False,
    beside: Sequence[str] = (),
    average_views: bool = False,
    cv: int | None = None,
    valid: float | None = None,
    per_class: int | None = None,
    draws: int = 20,
    repeats: int = 1,
    test: float | None = None,
    splits: str | None = None,
    groups: str | None = None,
    together: str = EXACT,
    curve: Sequence[int] = (),
    seed: int = 0,
    map: str | None = "pca",
    name: str | None = None,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | ProgressBar = True,
    before_extraction: BeforeExtraction | None = None,
) -> Run:
    """Judge a head on splits of the images, then fit it on all images but those of the test.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
        The images and their targets.
    features : FeatureSet or FeatureRequest
        The features that the head reads: what `layertap.extract` returns, or a request; those that the cache lacks are
        extracted first. Of several layers every split chooses one, by inner folds of its training images.
    head : str, optional
        A name of `heads.HEADS`; ``patchcore``, which learns one class and finds anomalies, from all maps side by side
        (see `heads.anomalies.patchcore.PatchCore`); a classifier or regressor of scikit-learn, as
        ``sklearn.svm:SVC``; or ``FILE.py:make_head``, a function that returns an estimator: that file is executed. By
        default ``auto`` for classes, ``ridge`` for numbers and ``logistic`` for labels.
    params : mapping, optional
        Parameters of the head.
    grid : mapping of str to sequence, optional
        Values of parameters, among which every split chooses by inner folds of its training images.
    regression, multilabel : sequence of str
        The columns of the numbers or the labels to predict; by default the classes are predicted.
    normal : str, optional
        The class that ``patchcore`` learns, ``good`` by default; images of all other classes are anomalies, which are
        only scored.
    calibrate : bool
        Whether the head learns a temperature of its probabilities.
    join : bool
        Whether the head reads all layers side by side, instead of one.
    beside : sequence of str
        Names of spaces of the cache that the head reads, too.
    average_views : bool
        Whether the head predicts by the mean over all views of an image, not by the plain image.
    cv, valid, per_class, draws, repeats, test, splits, groups, together, curve, seed
        How images are split (see `layertap.workflows.training.protocol_options.ProtocolOptions`).
    map : {'pca', 'umap'}, optional
        How the features are drawn in two dimensions.
    name : str, optional
        What the run calls the data set; by default the data set's own name.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder; by default that of the `features`, or the default cache.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    out : str or Path, optional
        The folder to write the run to; by default the run is not written.
    overwrite : bool
        Whether a run in that folder is replaced.
    progress : bool or callable
        See `layertap.progress.progress_bars`.
    before_extraction : callable, optional
        See `layertap.workflows.extract.BeforeExtraction`.

    Returns
    -------
    Run
        With a `report` of what was noticed.

    Raises
    ------
    LayertapError
        When options contradict each other, do not go with the data, or features cannot be computed.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head("digits", features, "ridge", cv=3, progress=False)
    >>> run.scores["accuracy"].mean > 0.9
    True
    """
    task, columns = task_of_columns(regression, multilabel)
    task = task_of_head(head, task, normal)
    if task == ANOMALIES:
        _require_maps(features)
    require_classes(task, per_class=per_class, curve=curve, calibrate=calibrate)
    choice = _choose_head(head or DEFAULT_HEADS[task], params, grid, calibrate, seed, task)
    if map is not None:
        require_method(map)
    if out is not None:
        runs.check_free(Path(out), overwrite=overwrite)
    options = ProtocolOptions(cv, valid, per_class, draws, repeats, test, splits, groups, together, tuple(curve), seed)
    dataset, bars = load_dataset(data), progress_bars(progress)
    read_targets(dataset, task, columns, normal=normal)  # a mistake in the options shows before any work
    options.protocol(dataset)
    store = cache_for(features, cache)
    stored = partial(stored_or_extracted, before=before_extraction, progress=bars)
    join = join or (task == ANOMALIES and _several_layers(features))
    candidates = _candidates(dataset, features, store, join, beside, average_views, on_error, stored)
    problem = _problem(
        candidates, read_targets(candidates.features.dataset, task, columns, normal=normal), options, bars
    )
    draw_map = partial(_feature_map, candidates, problem, name or dataset.name, None if out is None else map)
    several = len(candidates.features.features) > 1
    feature_map = None if several else draw_map(next(iter(candidates.features.features)))  # drawn during the fit
    trained = _train(candidates, problem, choice, bars)
    if several:
        feature_map = draw_map(trained.features)
    metrics = _metrics(candidates, problem, choice, trained, bars)
    config = _config(candidates, problem, choice, trained, dataset, name or dataset.name)
    held_out = _held_out(candidates, problem, trained)
    report = TrainingReport(
        trained.features,
        trained.params,
        len(problem.targets.values),
        tuple(candidates.features.skipped),
        problem.notes,
        problem.warnings,
        _tried(candidates) if head is None and task == CLASSES else "",
    )
    net_code = runs.code_of_nets(net for _, net in config.parts)
    if out is None:
        return Run(None, config, trained.head, report, metrics, net_code, held_out)
    _write(Path(out), overwrite, candidates, problem, trained, metrics, config, held_out, feature_map)
    runs.record_use(Path(out), store.root, candidates.rows)
    return Run(Path(out), config, trained.head, report, net_code=net_code)


def _choose_head(
    name: str,
    params: Mapping[str, Any] | None,
    grid: Mapping[str, Sequence[Any]] | None,
    calibrate: bool,
    seed: int,
    task: str,
) -> _HeadChoice:
    """The head and its parameters; a mistake in them shows before any work."""
    calibrates = calibrate and name != "auto"  # which always is
    chosen = seeded(name, dict(params or {}) | ({"calibrate": True} if calibrates else {}), seed, task)
    values = dict(grid or {})
    combinations = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    for combination in combinations:
        make_head(name, {**chosen, **combination}, task)
    if task == ANOMALIES and len(combinations) > 1:
        raise InvalidChoice(
            f"{name} learns one class, so nothing tells which values of `grid` are better; name one of each."
        )
    return _HeadChoice(name, chosen, combinations)


def _candidates(
    dataset: Dataset,
    features: FeatureSet | FeatureRequest,
    cache: FeatureCache,
    join: bool,
    beside: Sequence[str],
    average_views: bool,
    on_error: str,
    stored: Callable[..., FeatureSet],
) -> _Candidates:
    """The features that the head may read, or all of them side by side.

    Parameters
    ----------
    stored : callable
        See `stored_or_extracted`.
    """
    if isinstance(features, FeatureSet):
        dataset, request = _with_digests(dataset, features), _request(features)
        on_error = "skip" if features.skipped else on_error
    else:
        request = features
    dataset = dataset.identify(cache)
    features = stored(dataset, request, cache, on_error=on_error)
    remarks = _remarks(features)
    views = Views(request.views, average_views)
    sources = {spec.layer: [(spec, request.net)] for spec in features.specs}
    if not join and not beside:
        return _Candidates(features, sources, views, remarks)
    if len(sources) + len(beside) < 2:
        raise InvalidChoice(
            "`join` puts several layers side by side; name them with `layers`, or spaces with `beside`."
        )
    names, joined = list(features.features), list(features.features.values())
    parts = [sources[layer][0] for layer in names]
    for space in beside:
        other = request_of(cache.open(space), request.views)
        others = stored(dataset, other, cache, on_error=on_error)
        remarks += _remarks(others)
        if others.dataset.ids != features.dataset.ids:
            raise InvalidChoice(
                f"{space} lacks other images than the rest; extract with `on_error='skip'`, or mend them."
            )
        joined += others.features.values()
        features = replace(features, specs=(*features.specs, *others.specs))
        parts += [(spec, other.net) for spec in other.specs]
        names.append(space)
    all_names = "+".join(names)
    whole: dict[str, Any] = {all_names: Joined(joined)}
    return _Candidates(replace(features, features=whole), {all_names: parts}, views, remarks)


def _several_layers(features: FeatureSet | FeatureRequest) -> bool:
    """Whether there are several layers to choose among."""
    return len(features.specs if isinstance(features, FeatureSet) else features.layers) > 1


def _require_maps(features: FeatureSet | FeatureRequest) -> None:
    """Raise InvalidChoice where the features have no positions."""
    poolings = {spec.pooling for spec in features.specs} if isinstance(features, FeatureSet) else {features.pooling}
    if poolings != {"none"}:
        raise InvalidChoice("the head reads maps of features, which are not pooled; take `pooling='none'`.")


def _remarks(features: FeatureSet) -> tuple[str, ...]:
    """What was noticed when the features were extracted just now."""
    return tuple(features.report.remarks) if features.report else ()


def _request(features: FeatureSet) -> FeatureRequest:
    """The request that gave these features.

    Raises
    ------
    InvalidChoice
        When they come from a space that was named, which does not record its net.
    """
    if features.request is None:
        raise InvalidChoice("these features do not record their net; take those that layertap.extract returns.")
    return features.request


def _with_digests(dataset: Dataset, features: FeatureSet) -> Dataset:
    """`dataset` with the digests that `features` have of its images, where these are the very same ones."""
    if dataset.sources is not features.dataset.sources:
        return dataset
    return replace(features.dataset, labels=dataset.labels, columns=dataset.columns)


def _problem(candidates: _Candidates, targets: Targets, options: ProtocolOptions, bars: ProgressBar) -> _Problem:
    """The targets of the images that can be read, and how these are split."""
    features = candidates.features
    protocol = options.protocol(features.dataset)
    copies = find_copies(features, options.together, targets.values if targets.task == CLASSES else None, bars)
    groups = options.split_groups(features.dataset, copies.groups)
    parted = parted_notes(protocol, groups)
    splits, fitted_rows, test_rows = protocol.divide(targets.values, groups)
    seen = runs.seen_by(net for parts in candidates.sources.values() for _, net in parts)
    identities = identify(features, bars)
    warnings = seen_warnings(seen, identities, splits, test_rows)
    nets = {id(net): net for parts in candidates.sources.values() for _, net in parts}.values()
    of_nets, assumed = remarks_of(nets)
    unscored = training_only_notes(targets.values, splits) if targets.task == CLASSES else ()
    remarks = dict.fromkeys((*suited(nets, features.dataset), *of_nets, *candidates.remarks))
    notes = (
        *remarks,
        *targets.notes,
        *copies.notes,
        *parted,
        *unscored,
    )
    return _Problem(targets, protocol, options, groups, fitted_rows, seen, identities, notes, (*assumed, *warnings))


def _train(candidates: _Candidates, problem: _Problem, choice: _HeadChoice, bars: ProgressBar) -> Trained:
    """Judge the head on the splits, and fit it."""
    with bars("splits") as show:
        return train(
            candidates.features.features,
            problem.targets.values,
            problem.groups,
            problem.protocol,
            choice.name,
            choice.params,
            show,
            candidates.views,
            grid=choice.grid,
        )


def _tried(candidates: _Candidates) -> str:
    """A sentence about what was tried where no head was named for classes."""
    from heads.linear.head import STRENGTHS  # loads scikit-learn
    from heads.ridge.path import RATIOS

    layers = list(candidates.features.features)
    where = f"each of {len(layers)} layers" if len(layers) > 1 else layers[0]
    grids = f"ridge regression of {len(RATIOS)} strengths and softmax regression of {len(STRENGTHS)}"
    return f"Tried on {where}: {grids}; the head auto is the calibrated mean of the best of both."


def _metrics(
    candidates: _Candidates, problem: _Problem, choice: _HeadChoice, trained: Trained, bars: ProgressBar
) -> dict[str, Any]:
    """The scores of a run, as `metrics.json` holds them."""
    targets, evaluation = problem.targets, trained.evaluation
    features = candidates.features.features[trained.features]
    metrics: dict[str, Any] = {"summary": evaluation.summary(), "folds": evaluation.folds}
    metrics["bagged"] = evaluation.bagged(targets.values)
    metrics["extraction_seconds"] = extraction_seconds(features)
    if trained.test:
        metrics["test"] = trained.test
    if targets.task == REGRESSION and len(targets.names) > 1:  # numbers that have units of their own
        truth, predicted = evaluation.held_out()
        columns = zip(targets.names, zip(truth.T, predicted.T, strict=True), strict=True)
        metrics["each"] = {column: score_regression(*values) for column, values in columns}
    if problem.options.curve:
        with bars("splits") as show:
            metrics["curve"] = learning_curve(
                features,
                targets.values,
                problem.groups,
                problem.options.curve,
                problem.protocol,
                choice.name,
                {**choice.params, **trained.params},
                candidates.views,
                show,
            )
    return metrics


def _feature_map(
    candidates: _Candidates, problem: _Problem, data: str, method: str | None, layer: str
) -> FeatureMapPicture | None:
    """A map of the features of a layer, which is being drawn; None where none is wanted, or there are no classes."""
    if method is None or problem.targets.task != CLASSES:
        return None
    features, targets = candidates.features.features[layer], problem.targets.values
    return map_of_features(features, targets, data, method, problem.options.seed, candidates.views.count)


def _held_out(candidates: _Candidates, problem: _Problem, trained: Trained) -> HeldOut:
    """What was predicted of the images held out."""
    features, targets = candidates.features, problem.targets
    return HeldOut.of(features.dataset.ids, features.digests, targets.values, targets.names, trained.evaluation)


def _config(
    candidates: _Candidates, problem: _Problem, choice: _HeadChoice, trained: Trained, dataset: Dataset, name: str
) -> RunConfig:
    """How the run was made of `dataset`, which it calls `name`."""
    targets = problem.targets
    labels = targets.names if targets.task in (MULTILABEL, ANOMALIES) else ()
    return RunConfig(
        parts=tuple(FeatureSource(spec, net.as_config()) for spec, net in candidates.sources[trained.features]),
        head=replace(HeadConfig(**record(choice.name, trained.head)), fit_seconds=trained.fit_seconds),
        task=TaskConfig(targets.task, targets.columns, labels),
        protocol=problem.options.to_json(problem.protocol),
        candidates=tuple(candidates.features.features),
        grid=choice.grid if len(choice.grid) > 1 else [],
        views=candidates.views,
        rows=candidates.rows,
        data={"name": name, "images": len(targets.values), targets.task: list(targets.names), **origin_of(dataset)},
        skipped=tuple(image.id for image in candidates.features.skipped),
        transforms=names_of(spec for spec, _ in candidates.sources[trained.features]),
    )


def _write(
    out: Path,
    overwrite: bool,
    candidates: _Candidates,
    problem: _Problem,
    trained: Trained,
    metrics: dict[str, Any],
    config: RunConfig,
    held_out: HeldOut,
    feature_map: FeatureMapPicture | None,
) -> None:
    """Write the run, its pictures and its report."""
    features, targets = candidates.features, problem.targets
    assert config.data is not None
    results = RunResults(
        config.data["name"],
        config.head.name,
        features.dataset,
        targets.values,
        targets.names,
        features.features[trained.features],
        trained.evaluation,
        metrics,
        config,
        trained.head,
        feature_map,
        features.digests,
        features.skipped,
        held_out=held_out,
    )
    drawn = pictures_of(results)
    with runs.new_run(out, overwrite=overwrite) as folder:
        runs.write(folder, trained.head, config, metrics, problem.trained_on, held_out=held_out)
        illustrate(folder, results, drawn)
        runs.write_skipped(folder, features.skipped)
