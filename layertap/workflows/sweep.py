"""Sweeping: the features of many layers and many heads are judged on the same splits, and ranked."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice, MissingFeatures, StorageFailure
from feature_cache.files.atomic import new_file
from feature_cache.files.checked import real_path
from feature_cache.joined import Joined
from heads.evaluation import pair_scores
from heads.evaluation.pair_scores import Pair, Result
from heads.evaluation.protocol import Protocol
from heads.evaluation.views import Views
from heads.registry import make_head, seeded
from layertap.progress import ProgressBar, progress_bars
from layertap.report import plots
from layertap.runs import seen_by
from layertap.workflows.extract import BeforeExtraction, augmentation_key, stored_or_extracted, window_text
from layertap.workflows.load_dataset import load_dataset
from layertap.workflows.training.copies import find_copies, identify, seen_warnings
from layertap.workflows.training.protocol_options import EXACT, ProtocolOptions, parted_notes, training_only_notes
from layertap.workflows.training.readouts import NamedNet, OfNets, Readout, Size, all_readouts, costs, requests_of
from transfer.data.datasets import Dataset, Unreadable, require_labels
from transfer.data.transforms import named
from transfer.extraction.feature_set import FeatureSet
from transfer.extraction.lookup import stored_features
from transfer.nets.suggestion import remarks_of, suited
from transfer.request import FeatureRequest

SEEDS = ("seed", "random_state", "estimator__random_state")  # parameters of heads that `seed` sets
# The columns of the table: the heading, and the text of a row.
COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "features": lambda row: row["features"],
    "head": lambda row: row["head"],
    "width": lambda row: row["width"],
    "accuracy": lambda row: "-" if row["accuracy"] is None else f"{row['accuracy']:.4f} ± {row['accuracy_std']:.4f}",
    "log-loss": lambda row: _number(row["nll"], ".4f"),
    "fit (s)": lambda row: _number(row["fit_seconds"], ".2f"),
    "predict (s)": lambda row: _number(row["predict_seconds"], ".3f"),
    "GFLOPs": lambda row: _number(row["gflops"], ".3g"),
    "front": lambda row: "*" if row["front"] else "",
}


@dataclass(frozen=True)
class Winner:
    """What the best pair is made of: one readout, or several side by side, and the head with its parameters."""

    readouts: tuple[Readout, ...]
    pair: Pair


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The ranking of pairs of features and heads.

    Attributes
    ----------
    data : str
        The name of the data set.
    rows : tuple of dict
        A row for each pair, the best first: ``features``, ``head``, ``width`` of the features, ``accuracy`` and
        ``accuracy_std`` over the splits, ``balanced_accuracy``, ``nll`` (log-loss), ``fit_seconds``,
        ``predict_seconds``, ``gflops`` of the net for an image, ``front`` (whether no other pair is better at the same
        cost or less), and ``error``, where the pair failed.
    expected : dict
        The ``accuracy`` to expect of the best pair on new images, which is lower than its score, and ``low`` and
        ``high``, the bounds of its 95 % interval.
    images : int
        The number of images that were read.
    skipped : tuple of Unreadable
        The images that could not be read.
    protocol : dict
        How the images were split.
    folder : Path or None
        The folder of the results.
    notes, warnings : tuple of str
        Sentences about the data, and about scores that say little.
    winner : Winner
        What the best pair is made of.
    corrections : mapping, optional
        The corrections of labels that were applied (see `transfer.data.corrections`).
    """

    data: str
    rows: tuple[dict[str, Any], ...]
    expected: dict[str, float]
    images: int
    skipped: tuple[Unreadable, ...]
    protocol: dict[str, Any]
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    winner: Winner | None = None
    corrections: Mapping[str, Any] | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The row of the best pair."""
        return self.rows[0]

    def table(self) -> list[list[str]]:
        """The texts of the table, row by row, for the headings `COLUMNS`."""
        return [[str(text(row)) for text in COLUMNS.values()] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Everything, as ``sweep.json`` holds it."""
        return {
            "data": self.data,
            "images": self.images,
            "skipped": [{"id": image.id, "reason": image.reason} for image in self.skipped],
            "protocol": self.protocol,
            "best": self.expected,
            "pairs": list(self.rows),
            **({"corrections": dict(self.corrections)} if self.corrections else {}),
        }

    def to_csv(self, file: str | Path) -> None:
        """Write the rows to a CSV file.

        Raises
        ------
        StorageFailure
            When the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        _write(Path(file), text.getvalue())

    def __str__(self) -> str:
        """The table, as text."""
        lines = [list(COLUMNS), *self.table()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    @property
    def outlook(self) -> str:
        """A sentence on the accuracy of the best pair on new images."""
        best, expected = self.best, self.expected
        if round(expected["high"] - expected["low"], 4) == 0:  # of no image that is mistaken, say
            return (
                f"Its accuracy is {best['accuracy']:.4f} in every sample of the {self.images:,} images; more images "
                "or harder ones would tell what to expect of new ones."
            )
        to = f"{expected['accuracy']:.4f} ({expected['low']:.4f} to {expected['high']:.4f})"
        if len(self.rows) == 1 or round(best["accuracy"] - expected["accuracy"], 4) == 0:
            return f"Expect an accuracy of {to}."
        return f"The best of {len(self.rows)} looks better than it is: expect an accuracy of {to}."

    def __repr__(self) -> str:
        best, expected = self.best, self.expected
        return (
            f"SweepResult({self.data!r}, {len(self.rows)} pairs; best: {best['features']} with {best['head']}, "
            f"accuracy {best['accuracy']:.4f}; expected on new images: {expected['accuracy']:.4f}, "
            f"{expected['low']:.4f} to {expected['high']:.4f})"
        )

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in cells) for cells in self.table()]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        caption = html.escape(
            f"Sweep of {self.data}, {self.images:,} images. "
            f"Best: {self.best['features']} with {self.best['head']}. {self.outlook}"
        )
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def sweep(
    data: Dataset | str | Path,
    nets: Sequence[NamedNet] = ("glyphnet",),
    heads: Sequence[str] = ("auto", "ridge", "knn"),
    *,
    layers: Sequence[str] = (),
    pools: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    join: Sequence[str] = (),
    weights: OfNets = None,
    preprocessing: OfNets = None,
    prefix_tokens: int | None = None,
    fit: str | None = None,
    fill: str | None = None,
    interpolation: str | None = None,
    alpha: str = "white",
    pages: str = "first",
    window: str | tuple[float, float] | None = None,
    transform: str | Path | None = None,
    precision: str = "float32",
    dtype: str = "float32",
    views: int = 1,
    augment: str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    cv: int | None = None,
    valid: float | None = None,
    per_class: int | None = None,
    draws: int = 20,
    repeats: int = 1,
    splits: str | None = None,
    groups: str | None = None,
    together: str = EXACT,
    seed: int = 0,
    extract: bool = True,
    jobs: int | None = None,
    name: str | None = None,
    cache: FeatureCache | str | Path | None = None,
    ray: bool | str | None = None,
    on_error: str = "fail",
    out: str | Path | None = None,
    progress: bool | ProgressBar = True,
    before_extraction: BeforeExtraction | None = None,
) -> SweepResult:
    """Judge the features of many layers with many heads, in all combinations, and rank the pairs.

    Parameters
    ----------
    data : Dataset, str or Path
        The images and their classes.
    nets : sequence of str, Path, Net or Run
        Nets by name, files of nets, or runs of fine-tuning.
    heads : sequence of str
        Heads, as `layertap.train_head` takes them.
    layers : sequence of str
        The layers to judge; of several nets, each as ``NET:LAYER``. By default the usual readout of each net.
    pools : sequence of str
        Poolings (``avg``, ``cls``, ``flatten`` …, see `layertap.extract`); by default the usual one of each net.
    sizes : sequence of (height, width)
        Input sizes; by default the net's own.
    join : sequence of str
        Layers whose features are judged side by side, as ``L+M``, besides each layer alone.
    weights, preprocessing : str, or mapping of str to str, optional
        The weights, and the preprocessing, of all nets, or of each net by its name (see `layertap.extract`).
    prefix_tokens : int, optional
        How many tokens of an output are no patches; by default what each net tells.
    fit, fill, interpolation, alpha, pages, window, transform, precision, dtype, views, augment
        How images become pixels, and how features are computed and stored (see `layertap.extract`). Heads are trained
        on all views of an image, and judged on the plain one.
    grid : mapping of str to sequence, optional
        Values of parameters, each of which is judged, as ``{"knn.n_neighbors": [1, 10]}``.
    cv, valid, per_class, draws, repeats, splits, groups, together, seed
        How images are split, by default in 5 folds: see
        `layertap.workflows.training.protocol_options.ProtocolOptions`.
    extract : bool
        Whether features that the cache lacks are computed.
    jobs : int, optional
        The number of processes; by default one for each core.
    name : str, optional
        What the result calls the data set; by default the data set's own name.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder.
    ray : bool or str, optional
        Have the workers of a Ray cluster compute what the cache lacks (see `layertap.extract`).
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    out : str or Path, optional
        The folder of the results, ``sweep.csv``, ``sweep.json`` and ``sweep.png``. A sweep that was interrupted, or
        grows, judges only what is new there. By default nothing is written.
    progress : bool or callable
        See `layertap.progress.progress_bars`.
    before_extraction : callable, optional
        See `layertap.workflows.extract.BeforeExtraction`.

    Returns
    -------
    SweepResult

    Raises
    ------
    LayertapError
        When options contradict each other, do not go with the data, or features are missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = sweep("digits", layers=["block1_pool"], heads=["ridge"], cv=3, jobs=1, cache=folder)
    >>> result.best["head"], result.best["accuracy"] > 0.8
    ('ridge', True)
    """
    options = ProtocolOptions(cv, valid, per_class, draws, repeats, None, splits, groups, together, (), seed)
    settings = list(_head_settings(heads, grid or {}, seed))
    dataset, bars = load_dataset(data), progress_bars(progress)
    require_labels(dataset)
    options.protocol(dataset)  # a mistake in the options shows before any work
    pixels = {
        "fit": fit or "",
        "fill": fill or "",
        "interpolation": interpolation or "",
        "alpha": alpha,
        "pages": pages,
        "window": window_text(window),
        "transform": None if transform is None else named(transform),
        "precision": precision,
        "dtype": dtype,
        "views": views,
        "augmentation": augmentation_key(augment, views, seed),
        "prefix_tokens": "auto" if prefix_tokens is None else prefix_tokens,
    }
    requests = requests_of(nets, weights, preprocessing, seed, pixels)
    readouts = all_readouts(requests, layers, pools, sizes, join)
    look_up = partial(stored_or_extracted, before=before_extraction, ray=ray, progress=bars) if extract else _stored
    features, stored = _features(dataset, readouts, as_cache(cache), on_error, look_up)
    problem = _problem(stored, options, readouts, bars)
    pairs = [Pair(features_name, head, params) for features_name in features for head, params in settings]
    of_nets, assumed = remarks_of(request.net for request in requests.values())
    unsuited = suited((request.net for request in requests.values()), stored.dataset)
    folder = None if out is None else Path(out)
    with bars("pairs") as show:
        results = pair_scores.sweep(
            features,
            pairs,
            problem.labels,
            problem.groups,
            problem.protocol,
            folder and folder / "results",
            views=Views(views),
            jobs=jobs or os.cpu_count() or 1,
            progress=show,
        )
    gflops = costs(readouts)
    widths = {key: math.prod(rows.shape[1:]) for key, rows in features.items()}
    result = SweepResult(
        name or dataset.name,
        _ranking(results, widths, gflops),
        _expected(results, problem.groups, seed),
        len(problem.labels),
        tuple(stored.skipped),
        options.to_json(problem.protocol),
        folder,
        (*unsuited, *of_nets, *problem.notes),
        (*assumed, *problem.warnings),
        Winner(tuple(readouts[results[0].pair.features]), results[0].pair),
        None if dataset.corrections is None else dataset.corrections.to_json(),
    )
    if folder is not None:
        _write_all(folder, result)
    return result


@dataclass(frozen=True, eq=False)
class _Problem:
    """The classes of the images that can be read, and how the images are split."""

    labels: np.ndarray
    groups: np.ndarray
    protocol: Protocol
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def _head_settings(
    heads: Sequence[str], grid: Mapping[str, Sequence[Any]], seed: int
) -> Iterator[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Each head with each combination of its parameters; a mistake in them shows before any work."""
    names = list(dict.fromkeys(heads))
    grids: dict[str, dict[str, Sequence[Any]]] = {name: {} for name in names}
    for key, values in grid.items():
        head, dot, parameter = key.rpartition(".")
        if not dot or head not in grids:
            raise InvalidChoice(f"`grid={key!r}`: give it as HEAD.NAME=V1,V2, of one of {', '.join(names)}.")
        grids[head][parameter] = values
    for name, values_of in grids.items():
        for combination in itertools.product(*values_of.values()):
            params = dict(zip(values_of, combination, strict=True))
            make_head(name, params)
            yield name, tuple(seeded(name, params, seed).items())


def _features(
    dataset: Dataset,
    readouts: dict[str, list[Readout]],
    cache: FeatureCache,
    on_error: str,
    look_up: Callable[..., FeatureSet],
) -> tuple[dict[str, Any], FeatureSet]:
    """The features by name; and those of the first request, with the specs of all requests.

    Images that are copies for one of the specs are copies for the sweep.

    Parameters
    ----------
    look_up : callable
        `_stored`, or `stored_or_extracted`.
    """
    dataset = dataset.identify(cache)
    requests = list({id(one.request): one.request for parts in readouts.values() for one in parts}.values())
    stored = {id(request): look_up(dataset, request, cache, on_error=on_error) for request in requests}
    features: dict[str, Any] = {}
    for name, parts in readouts.items():
        arrays = [stored[id(one.request)].features[one.layer] for one in parts]
        features[name] = arrays[0] if len(arrays) == 1 else Joined(arrays)
    specs = tuple(spec for one in stored.values() for spec in one.specs)
    return features, replace(stored[id(requests[0])], specs=specs)


def _stored(dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, on_error: str) -> FeatureSet:
    """The features in the cache; the error that some are missing says how to compute them."""
    try:
        return stored_features(dataset, request, cache, on_error=on_error)
    except MissingFeatures as error:
        raise MissingFeatures(f"{error} Compute what is missing with `extract=True`.") from error


def _problem(
    stored: FeatureSet, options: ProtocolOptions, readouts: dict[str, list[Readout]], bars: ProgressBar
) -> _Problem:
    """What the heads learn, on which splits."""
    labels = require_labels(stored.dataset)
    copies = find_copies(stored, options.together, labels, bars)
    groups = options.split_groups(stored.dataset, copies.groups)
    protocol = options.protocol(stored.dataset)
    has_parts = protocol.predefined is not None and bool(protocol.predefined.names)
    if (options.cv, options.valid, options.per_class) == (None, None, None) and not has_parts:
        protocol = replace(protocol, cv=5)
    splits, _, test_rows = protocol.divide(labels, groups)
    seen = seen_by(one.request.net for parts in readouts.values() for one in parts)
    warnings = seen_warnings(seen, identify(stored, bars), splits, test_rows)
    notes = (*copies.notes, *parted_notes(protocol, groups), *training_only_notes(labels, splits))
    return _Problem(labels, groups, protocol, notes, warnings)


def _expected(results: Sequence[Result], groups: np.ndarray, seed: int) -> dict[str, float]:
    """The accuracy to expect of the best pair: never more than its score, as samples are drawn at random."""
    expected = pair_scores.unbiased(results, groups, seed)
    best = max(result.accuracy for result in results)
    return {**expected, "accuracy": min(expected["accuracy"], best), "low": min(expected["low"], best)}


def _ranking(
    results: Sequence[Result], widths: Mapping[str, int], gflops: Mapping[str, float]
) -> tuple[dict[str, Any], ...]:
    """The rows of the table.

    Raises
    ------
    InvalidChoice
        When all pairs failed.
    """
    scored = [result for result in results if not result.error]
    if not scored:
        raise InvalidChoice(f"no pair could be judged: {results[0].error}")
    rows = [_row(result, widths[result.pair.features], gflops[result.pair.features]) for result in results]
    # Results that failed come last, so that positions among those that did not are positions among all.
    for position in plots.pareto([row["gflops"] for row in rows[: len(scored)]], [one.accuracy for one in scored]):
        rows[position]["front"] = True
    return tuple(rows)


def _row(result: Result, width: int, gflops: float) -> dict[str, Any]:
    """The row of a pair."""
    valid = result.summary.get("valid", {})

    def mean(name: str) -> float | None:
        return valid[name]["mean"] if valid else None

    return {
        "features": result.pair.features,
        "head": _head_text(result.pair),
        "width": width,
        "accuracy": mean("accuracy"),
        "accuracy_std": valid["accuracy"]["std"] if valid else None,
        "balanced_accuracy": mean("balanced_accuracy"),
        "nll": mean("nll"),
        "fit_seconds": mean("fit_seconds"),
        "predict_seconds": mean("predict_seconds"),
        "gflops": gflops,
        "front": False,
        "error": result.error,
    }


def _head_text(pair: Pair) -> str:
    """The name of a head and its parameters, without those that the seed sets."""
    params = " ".join(f"{name}={value}" for name, value in pair.params if name not in SEEDS)
    return f"{pair.head} {params}".rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _write_all(folder: Path, result: SweepResult) -> None:
    """Write the picture and the tables of a sweep into its folder."""
    scored = [row for row in result.rows if not row["error"]]
    try:
        plots.tradeoff(
            folder / "sweep.png",
            [f"{row['features']} {row['head']}" for row in scored],
            [row["gflops"] for row in scored],
            [row["accuracy"] for row in scored],
            f"{result.data}: accuracy against cost",
            cost_label="GFLOPs of the net for an image",
        )
    except OSError as error:
        raise StorageFailure(f"cannot write {folder / 'sweep.png'}: {error.strerror or error}.") from error
    result.to_csv(folder / "sweep.csv")
    _write(folder / "sweep.json", json.dumps(result.to_json(), indent=2) + "\n")


def _write(file: Path, text: str) -> None:
    """Write a text file, which appears as a whole or not at all."""
    with new_file(real_path(file), "the results of the sweep", sync=False) as stream:
        stream.write(text.encode("utf-8", errors="backslashreplace"))
