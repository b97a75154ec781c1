"""The pictures of a run, and the page that shows them with all else that is known of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import Evaluation
from heads.evaluation.metrics import confusion, per_class, per_kind, per_label, reliability
from heads.evaluation.tasks import task_of
from heads.registry import TASKS
from layertap.few_images import note_on
from layertap.held_out import HeldOut
from layertap.report import panels, plots, run_report
from layertap.report.background import Picture, draw
from layertap.report.heat_maps import overlay
from layertap.report.map_page import MapContent, prediction_columns
from layertap.report.mistakes import Confusions, TrainingImages, confusions
from layertap.report.pages import thumbnail_if_readable
from layertap.report.run_report import Tabs
from layertap.report.tabs import confidence
from layertap.report.tabs.anomalies import heat_view
from layertap.report.tabs.cost import cost_rows
from layertap.report.tabs.curves import learning_curve
from layertap.report.tabs.data_set import data_view
from layertap.report.tabs.feature_map import FeatureMapPicture, map_of_images
from layertap.report.tabs.recipe import recipe_view
from layertap.run_config import RunConfig
from layertap.shown_scores import HEADLINES, SCORES
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.images import Decoding, decoding_of, thumbnail
from transfer.data.images.pixels import pixels_for

CLASSES, REGRESSION, MULTILABEL, ANOMALIES = TASKS
MISTAKES = {
    CLASSES: "Surest mistakes (look at their labels)",
    REGRESSION: "Furthest from the truth (look at their numbers)",
    MULTILABEL: "Surest mistakes (look at their labels)",
    ANOMALIES: "Surest mistakes (look at their labels)",
}
WHERE = "Most anomalous images, and where"
MOST_WHERE, WHERE_IN_A_ROW = 12, 4  # anomalies, and those in a row, each beside its heat map
CURVE = "Learning curve"
MAP = "Map of the features"
# Pictures that the page shows better: cells that open images, images with their names, and numbers to choose.
REPLACED = ("Confusion", "Reliability", WHERE, *MISTAKES.values())
NAMES = {REGRESSION: "numbers", MULTILABEL: "labels"}
WORDS = {
    "extraction_seconds": "extraction (s)",
    "fit_seconds": "fit (s)",
    "recipe": "version of the pixel recipe",
    "dtype": "stored as",
    "cv": "folds",
    "valid": "share held out",
    "test": "share of the test",
    "draws": "draws of few labels",
}


@dataclass(frozen=True, eq=False)
class RunResults:
    """What the pictures of a run are drawn from.

    Attributes
    ----------
    title : str
        What the pictures call the data set.
    head : str
        What the pictures call the head.
    dataset : Dataset
        The images, without those that were left out.
    targets : ndarray
        The truth of all images (see `heads.evaluation.tasks`).
    names : tuple of str
        The names of the classes, labels or numbers.
    features : array of shape (n * views, ...)
        The features that the head reads.
    evaluation : Evaluation
    metrics : dict
        As `metrics.json` holds them.
    config : RunConfig
    fitted : Head, optional
        The head of the run, which draws heat maps if it finds anomalies.
    feature_map : FeatureMapPicture, optional
        See `layertap.report.tabs.feature_map.map_of_features`.
    digests : ndarray of shape (n, 16), uint8, optional
        Of the content of the images.
    skipped : sequence of Unreadable
        The images that were left out.
    training : TrainingImages, optional
        Those of the training, where the evaluation is of other images.
    judge : str
        Whose predictions these are.
    held_out : HeldOut, optional
        What was predicted of each image, where it has been gathered.
    """

    title: str
    head: str
    dataset: Dataset
    targets: np.ndarray
    names: tuple[str, ...]
    features: Any
    evaluation: Evaluation
    metrics: dict[str, Any]
    config: RunConfig
    fitted: Any = None
    feature_map: FeatureMapPicture | None = None
    digests: np.ndarray | None = None
    skipped: Sequence[Unreadable] = ()
    training: TrainingImages | None = None
    judge: str = run_report.JUDGE
    held_out: HeldOut | None = None

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.config.task.name if self.config.task else CLASSES

    @property
    def decoding(self) -> Decoding:
        """How the images are decoded."""
        return decoding_of(self.config.parts[0].spec)


Drawn = dict[str, tuple[str, Picture]]  # by heading: the name of the file, and the picture


def pictures_of(results: RunResults) -> Drawn:
    """The pictures of a run, which are being drawn."""
    drawn = _scores(results)
    if (where := _where(results)) is not None:
        drawn[WHERE] = "where.png", where
    if (mistakes := _mistakes(results)) is not None:
        drawn[MISTAKES[results.task]] = "mistakes.png", mistakes
    if results.feature_map is not None and results.feature_map.picture is not None:
        drawn[MAP] = "map.png", results.feature_map.picture
    return drawn


def write_page(file: Path, results: RunResults, folder: Path | None = None, notes: Sequence[str] = ()) -> None:
    """Write one page with the results of a head on some images, and no picture beside it.

    Parameters
    ----------
    folder : Path, optional
        Of the run, whose files the page counts among the cost.
    notes : sequence of str
        Sentences below the title.

    Raises
    ------
    StorageFailure
        When the folder does not take it.
    """
    drawn = {} if results.task == CLASSES else _scores(results)
    tabs = _tabs(folder, results)
    with tempfile.TemporaryDirectory() as made:
        _write_report(file, results, tabs, _written(Path(made), drawn), notes)


def illustrate(folder: Path, results: RunResults, drawn: Drawn) -> None:
    """Write pictures into the folder of a run, and ``report.html``.

    Parameters
    ----------
    drawn
        See `pictures_of`.
    """
    tabs = _tabs(folder, results)  # while another process draws
    _write_report(folder / run_report.REPORT_FILE, results, tabs, _written(folder, drawn))


def _written(folder: Path, drawn: Drawn) -> dict[str, Path]:
    """The files of pictures by their headings, which are written into `folder`."""
    pictures = {}
    for heading, (name, picture) in drawn.items():
        pictures[heading] = folder / name
        pictures[heading].write_bytes(picture.png())
    return pictures


def _scores(results: RunResults) -> Drawn:
    """What the scores of a task look like."""
    truth, predicted = results.evaluation.held_out()
    title, names = f"{results.title}: images held out", results.names
    drawn: Drawn = {}
    if results.task == CLASSES:
        classes = np.array(names)
        measured = reliability(classes, truth, np.concatenate(results.evaluation.outputs))
        counts = confusion(classes, truth, predicted)
        drawn["Confusion"] = "confusion.png", draw(plots.confusion, names, counts, title)
        drawn["Reliability"] = "reliability.png", draw(plots.reliability, measured, title)
    if results.task == REGRESSION:
        drawn["Predicted and true"] = "predicted.png", draw(plots.predictions, truth, predicted, names, title)
    if results.task == ANOMALIES:
        scores = np.concatenate(results.evaluation.outputs)
        drawn["Anomaly scores"] = "scores.png", draw(plots.anomaly_scores, scores, truth, names[0], title)
    if points := results.metrics.get("curve"):
        curve = {results.head: [(point["accuracy"]["mean"], point["accuracy"]["std"]) for point in points]}
        numbers = [point["per_class"] for point in points]
        drawn[CURVE] = "curve.png", draw(plots.learning_curves, numbers, curve, results.title)
    return drawn


def _write_report(
    file: Path, results: RunResults, tabs: Tabs, pictures: dict[str, Path], notes: Sequence[str] = ()
) -> None:
    """Gather what is shown of the results in words, and write it with the pictures and tabs."""
    config, metrics = results.config, results.metrics
    spec = json.loads(config.parts[0].spec.to_json())
    spec["layer"] = list(dict.fromkeys(part.spec.layer for part in config.parts))
    spec["size"] = " x ".join(map(str, spec["size"]))
    what: dict[str, Any] = {NAMES.get(results.task, results.task): len(results.names)}
    if results.task == ANOMALIES:
        what = {"normal": results.names[0], ANOMALIES: int(results.targets.sum())}
    placed = {"map": {MAP: pictures[MAP]}} if MAP in pictures else {}
    replaced = {*REPLACED, MAP, *((CURVE,) if tabs.curve else ())}
    run_report.write_report(
        file.parent,
        _title(results),
        {**metrics.get("summary", {}), **({"test": metrics["test"]} if "test" in metrics else {})},
        {
            "Features": _in_words({**spec, "extraction_seconds": metrics.get("extraction_seconds")}),
            "Head": _in_words(config.head.to_json()),
            "Protocol": _in_words({**_protocol(config.protocol or {}), **_splits(results)}),
            "Data": {
                "name": results.title,
                "images": len(results.targets),
                **what,
                "skipped": len(results.skipped),
            },
        },
        _scores_of_each(results),
        {name: file for name, file in pictures.items() if name not in replaced},
        notes=[*notes, *filter(None, [note_on(metrics, len(results.targets))])],
        tabs=replace(tabs, pictures=placed),
        name=file.name,
    )


def _tabs(folder: Path | None, results: RunResults) -> Tabs:
    """What the page shows beside the scores, but for pictures."""
    test = results.metrics.get("test") or {}
    return Tabs(
        _confusions(results),
        _confidence(results),
        _map(results),
        data_view(
            results.dataset,
            results.dataset.labels if results.task in (CLASSES, ANOMALIES) else None,
            _counts(results),
            results.decoding,
            folds=results.metrics.get("folds", ()),
            test=test.get("n"),
            digests=results.digests,
            skipped=results.skipped,
        ),
        cost_rows(results.config, results.metrics, results.features, folder),
        recipe_view(results.config, results.metrics),
        learning_curve(results.metrics.get("curve", ())),
        (MISTAKES[results.task], _gallery(results)),
        anomalies=_anomalies(results),
        judge=results.judge,
    )


def _confidence(results: RunResults) -> tuple[dict[str, Any], dict[str, Any]] | None:
    if results.task not in (CLASSES, MULTILABEL):
        return None
    rows = np.concatenate(results.evaluation.rows)
    _, once = np.unique(rows, return_index=True)  # several splits may hold an image out: the first counts
    truth = np.concatenate(results.evaluation.truth)[once]
    outputs = np.concatenate(results.evaluation.outputs)[once]
    if results.task == CLASSES:
        return confidence.of_classes(results.names, truth, outputs)
    return confidence.of_labels(results.names, truth, outputs)


def _counts(results: RunResults) -> dict[str, int]:
    """How many images each class or label has; none for numbers."""
    if results.task == MULTILABEL:
        return dict(zip(results.names, results.targets.sum(0).tolist(), strict=True))
    if results.dataset.labels is None or results.task == REGRESSION:
        return {}
    return dict(zip(*(part.tolist() for part in np.unique(results.dataset.labels, return_counts=True)), strict=True))


def _map(results: RunResults) -> MapContent | None:
    """The images as points; None where there is no map."""
    if results.feature_map is None:
        return None
    dataset, held_out = results.dataset, results.held_out
    if held_out is None:
        empty = np.zeros((len(dataset), 16), np.uint8)
        held_out = HeldOut.of(dataset.ids, empty, results.targets, results.names, results.evaluation)
    columns = prediction_columns(dataset.labels, results.names, held_out.outputs, held_out.splits)
    if not results.metrics.get("folds"):
        del columns["split"]
    note = f"Predictions are those of {results.judge}."
    return map_of_images(results.title, dataset, results.feature_map, columns, results.decoding, note)


def _confusions(results: RunResults) -> Confusions | None:
    if results.task != CLASSES:
        return None
    views = len(results.features) // max(1, len(results.dataset))
    return confusions(
        results.dataset,
        results.names,
        results.evaluation,
        results.features,
        views,
        results.decoding,
        results.training,
        results.digests,
    )


def _title(results: RunResults) -> str:
    """The data set, the head, the net that it reads, and the score that says most."""
    nets = " and ".join(dict.fromkeys(part.spec.net for part in results.config.parts))
    key = HEADLINES[results.task][0]
    value = (results.metrics.get("test") or results.metrics.get("summary", {}).get("valid") or {}).get(key)
    value = value.get("mean") if isinstance(value, dict) else value
    score = "" if value is None else f", {SCORES[key].label} {value:{SCORES[key].format}}"
    return f"{results.title}: {results.head} on {nets}{score}"


def _splits(results: RunResults) -> dict[str, Any]:
    """How many splits there were, and how many images they held out."""
    rows = results.evaluation.rows
    if not results.metrics.get("folds") or not rows:
        return {}
    return {"splits": len(rows), "images held out": len(np.unique(np.concatenate(rows)))}


def _protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    """A protocol without what had no part in it."""
    return {name: value for name, value in protocol.items() if name != "draws" or "per_class" in protocol}


def _in_words(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as people read them: parameters by their names, and without what was not set."""
    flat = {**settings, **settings.get("params", {})}
    return {WORDS.get(name, name): value for name, value in flat.items() if value is not None and name != "params"}


def _scores_of_each(results: RunResults) -> list[dict[str, Any]]:
    """The scores of each class or label; none for numbers."""
    truth, predicted = results.evaluation.held_out()
    if results.task == REGRESSION:
        return []
    if results.task == ANOMALIES:
        labels = results.dataset.labels
        assert labels is not None
        return per_kind(labels[np.concatenate(results.evaluation.rows)], truth, predicted)
    if results.task == MULTILABEL:
        return per_label(results.names, truth, predicted)
    names = np.array(results.names)
    _, once = np.unique(np.concatenate(results.evaluation.rows), return_index=True)  # repeats hold an image out again
    counts = np.bincount(np.searchsorted(names, truth[once]), minlength=len(names)).tolist()
    return [
        {**scores, "support": count} for scores, count in zip(per_class(names, truth, predicted), counts, strict=True)
    ]


def _worst(results: RunResults) -> tuple[list[int], list[list[str]]]:
    """The images that were mistaken most, and two lines about each."""
    evaluation = results.evaluation
    rows, outputs = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    truth, predicted = evaluation.held_out()
    task = task_of(results.targets)
    wrong = task.worst(task.all_classes(results.targets), truth, outputs, 4 * panels.MOST_MISTAKES)
    _, first = np.unique(rows[wrong], return_index=True)  # an image may have been mistaken in several splits
    wrong = wrong[np.sort(first)][: panels.MOST_MISTAKES]
    lines = [_true_and_predicted(results, truth[one], predicted[one], outputs[one]) for one in wrong]
    return rows[wrong].tolist(), lines


def _gallery(results: RunResults) -> list[dict[str, Any]]:
    """The images that were mistaken most as a page shows them, where no other part of it does."""
    if results.task in (CLASSES, ANOMALIES):
        return []
    sources, ids = results.dataset.sources, results.dataset.ids
    return [
        {"id": ids[row], "url": url, "lines": lines}
        for row, lines in zip(*_worst(results), strict=True)
        if (url := thumbnail_if_readable(sources[row], decoding=results.decoding))
    ]


def _mistakes(results: RunResults) -> Picture | None:
    """The images that were mistaken most, if any was."""
    rows, lines = _worst(results)
    if not rows:
        return None
    images = [thumbnail(results.dataset.sources[row], panels.LARGEST, results.decoding) for row in rows]
    captions = [panels.caption(results.dataset.ids[row], *pair) for row, pair in zip(rows, lines, strict=True)]
    title = f"{results.title}: {MISTAKES[results.task].partition(' (')[0].lower()}"
    return draw(panels.mistakes, images, captions, title)


def _anomalies(results: RunResults) -> list[dict[str, Any]]:
    """Anomalous images beside their heat maps, as a page shows them."""
    if results.task != ANOMALIES or results.fitted is None:
        return []
    rows, scores, anomalous = _scored(results)
    spec, learned = results.config.parts[0].spec, bool(results.evaluation.trained)
    heat_of = partial(_heat, results)
    return heat_view(results.dataset, spec, rows, scores, anomalous, heat_of, results.names[0], learned=learned)


def _scored(results: RunResults) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images that were scored, their scores by the first split that held them out, and which are anomalies."""
    rows, first = np.unique(np.concatenate(results.evaluation.rows), return_index=True)
    scores = np.concatenate(results.evaluation.outputs).reshape(-1)[first]
    return rows, scores, np.asarray(results.targets, bool)[rows]


def _heat(results: RunResults, rows: np.ndarray) -> np.ndarray:
    """Where images are anomalous, in pixels of the net's input: (m, height, width)."""
    views = len(results.features) // len(results.dataset)  # of which the first is the plain image
    heat: np.ndarray = results.fitted.anomaly_maps(results.features[rows * views], results.config.parts[0].spec.size)
    return heat


def _where(results: RunResults) -> Picture | None:
    """The anomalies with the highest scores, each beside its heat map; normal images were learned, and have no heat."""
    if results.task != ANOMALIES or results.fitted is None:
        return None
    rows, scores, anomalous = _scored(results)
    worst = np.argsort(-scores, kind="stable")
    worst = worst[anomalous[worst]][:MOST_WHERE]
    if not len(worst):
        return None
    spec, dataset = results.config.parts[0].spec, results.dataset
    images, captions = [], []
    for row, score, heat in zip(rows[worst], scores[worst], _heat(results, rows[worst]), strict=True):
        name = dataset.ids[row]
        pixels = pixels_for(dataset.sources[row].load()[1], spec, name)
        images += [pixels, overlay(pixels, heat)]
        captions += [panels.caption(name), f"score {score:.2f}"]
    return draw(panels.panel, images, captions, f"{results.title}: {WHERE.lower()}", 2 * WHERE_IN_A_ROW)


def _true_and_predicted(results: RunResults, truth: Any, predicted: Any, outputs: Any) -> list[str]:
    """Two lines about an image: the truth, and what was predicted."""
    if results.task == CLASSES:
        return [truth, f"→ {predicted} {outputs.max():.2f}"]
    if results.task == ANOMALIES:
        return ["anomaly" if truth else results.names[0], f"→ score {outputs:.2f}"]
    text = _numbers if results.task == REGRESSION else lambda member: _labels(member, results.names)
    return [text(truth), f"→ {text(predicted)}"]


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _labels(member: np.ndarray, names: tuple[str, ...]) -> str:
    return ", ".join(name for name, has in zip(names, member, strict=True) if has) or "none"
