"""`layertap.feature_map`: all images of a data set or a run as points, on a page that one can touch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import BadData, InvalidChoice, MissingDependency
from feature_cache.files.atomic import new_file
from layertap.analysis.projections import Projection, clusters, project_all, require_method
from layertap.held_out import NEVER, held_out_first
from layertap.progress import ProgressBar, progress_bars
from layertap.report.map_page import MapContent, prediction_columns, selection_command, write_map
from layertap.runs import Run, is_run, load_run
from layertap.shown_scores import CLASSES
from layertap.workflows.extract import BeforeExtraction, cache_for, stored_or_extracted
from layertap.workflows.load_dataset import Source, load_again, load_dataset
from layertap.workflows.predict import apply_run
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.images import Decoding, decoding_of
from transfer.extraction.feature_set import FeatureSet
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest
from transfer.search.neighbors import nearest

MOST_POINTS = 100_000
MOST_CLUSTERS = 10
NEIGHBORS = 15
MOST_CATEGORIES = 5000  # of a column; more are ids and remarks, which no colour tells apart
FEW_NUMBERS = 12  # different numbers in a column, up to which they are categories


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMap:
    """The result of `feature_map`.

    Attributes
    ----------
    data : Dataset
        The images, in the order of the points.
    projection : Projection
    columns : dict of str to ndarray of shape (n,)
        What is known of each image: class, cluster, the columns of its table; of a run also prediction, result,
        confidence and split. Texts, or float64.
    files : tuple of Path
        The files that were written.
    skipped : tuple of Unreadable
        The images that were left out.
    notes : tuple of str
        Sentences about what the map shows.
    """

    data: Dataset
    projection: Projection
    columns: dict[str, np.ndarray]
    files: tuple[Path, ...] = ()
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<FeatureMap of {self.data.name}: {len(self.data):,} images; {', '.join(self.columns)}>"


@dataclass(frozen=True, eq=False)
class _Mapped:
    """Images with the features that they are placed by.

    Attributes
    ----------
    rows : array of shape (n * views, ...)
    columns : dict of str to ndarray
        What a run says of the images; empty without one.
    """

    features: FeatureSet
    rows: Any
    views: int
    decoding: Decoding
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def feature_map(
    source: Source | Run,
    features: FeatureSet | FeatureRequest | None = None,
    *,
    on: Source | None = None,
    out: str | os.PathLike[str] | None = None,
    parquet: str | os.PathLike[str] | None = None,
    projection: str = "pca",
    clusters: int = MOST_CLUSTERS,
    seed: int = 0,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
    before_extraction: BeforeExtraction | None = None,
) -> FeatureMap:
    """Place images in two dimensions by their features, and write a page on which one can look through them.

    Parameters
    ----------
    source : Run, Dataset, or what `layertap.load_dataset` takes
        A run, or its folder, whose predictions the map shows; or a data set.
    features : FeatureSet or FeatureRequest, optional
        The features of a data set: what `layertap.extract` returns, or a request; those that the cache lacks are
        extracted first. By default those of ``glyphnet``. A run has its own.
    on : Dataset, or what `layertap.load_dataset` takes, optional
        The images on which a run is shown; by default those that it was trained on.
    out : path, optional
        The page to write, one file of HTML that needs no network; by default none is written.
    parquet : path, optional
        A Parquet file to write with ``id``, ``x``, ``y``, ``neighbors`` and all columns, for embedding-atlas.
    projection : {'pca', 'umap'}
        Principal components, or UMAP (McInnes et al. 2018), which takes minutes for 60,000 images.
    clusters : int
        The number of clusters of k-means.
    seed : int
        The seed of the projection, the clusters and, where there are more than 100,000 images, their choice.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder; by default that of the `features`, or the default cache.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.
    before_extraction : callable, optional
        See `layertap.workflows.extract.BeforeExtraction`.

    Raises
    ------
    InvalidChoice
        When options contradict each other, or there are no such images.
    BadData
        When features are infinite or not numbers.
    MissingDependency
        When the package of the projection, or of Parquet, is not installed.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> found = lt.feature_map("digits", features, progress=False)
    >>> found, found.projection.points.shape
    (<FeatureMap of digits: 1,797 images; class, cluster>, (1797, 2))
    """
    require_method(projection)
    if clusters < 1:
        raise InvalidChoice(f"`clusters` is the number of clusters, at least 1; received {clusters}.")
    files = tuple(Path(file) for file in (out, parquet) if file is not None)
    for file in files:
        if not file.absolute().parent.is_dir():
            raise InvalidChoice(f"the folder {file.parent} of {file.name} does not exist; make it, or choose another.")
    if parquet is not None:
        _require_parquet()
    bars = progress_bars(progress)
    mapped = _mapped(source, features, on, cache, on_error, bars, before_extraction)
    mapped = _at_most(mapped, MOST_POINTS, seed)
    dataset = mapped.features.dataset
    if not len(dataset):
        raise InvalidChoice(f"{dataset.name} has no image that can be read.")
    places = project_all(mapped.rows, projection, seed, mapped.views)
    columns = _columns(mapped, clusters, seed)
    content = _content(mapped, places, columns)
    if out is not None:
        with bars("thumbnails") as show:
            write_map(Path(out), content, show)
    if parquet is not None:
        _write_parquet(Path(parquet), content, mapped)
    return FeatureMap(dataset, places, columns, files, tuple(mapped.features.skipped), mapped.notes)


def _mapped(
    source: Source | Run,
    features: FeatureSet | FeatureRequest | None,
    on: Source | None,
    cache: FeatureCache | str | Path | None,
    on_error: str,
    bars: ProgressBar,
    before: BeforeExtraction | None,
) -> _Mapped:
    if isinstance(source, str | os.PathLike) and is_run(Path(source)):
        source = load_run(Path(source))
    if isinstance(source, Run):
        if features is not None:
            raise InvalidChoice("a run has features of its own; leave out `features`.")
        return _of_run(source, _data_of(source, on), as_cache(cache), on_error, bars)
    if on is not None:
        raise InvalidChoice("`on` names the images on which a run is shown, and the source is no run; leave it out.")
    wanted = FeatureRequest(Net("glyphnet"), ()) if features is None else features
    store = cache_for(wanted, cache)
    layers = wanted.features if isinstance(wanted, FeatureSet) else wanted.layers
    if len(layers) > 1:
        raise InvalidChoice(f"a map is of one layer; received {len(layers)}: name one with `layers`.")
    if isinstance(wanted, FeatureRequest):
        dataset = load_dataset(source)
        wanted = stored_or_extracted(dataset, wanted, store, before=before, on_error=on_error, progress=bars)
    [rows] = wanted.features.values()
    views = len(rows) // max(1, len(wanted.dataset))
    return _Mapped(wanted, rows, views, decoding_of(wanted.specs[0]))


def _data_of(run: Run, on: Source | None) -> Source:
    """The images on which a run is shown.

    Raises
    ------
    InvalidChoice
        When those that it was trained on are not where they were.
    """
    if on is not None:
        return on
    about = run.config.data or {}
    name = about.get("name")
    if not isinstance(name, str):
        raise InvalidChoice(f"the run {run.folder} does not say which images it was trained on; name them with `on`.")
    with contextlib.suppress(InvalidChoice, BadData):
        return load_again(about.get("options")) or load_dataset(name)
    raise InvalidChoice(f"the images of the run, {name}, cannot be loaded from here; name them with `on`.")


def _of_run(run: Run, data: Source, cache: FeatureCache, on_error: str, bars: ProgressBar) -> _Mapped:
    applied = apply_run(run, load_dataset(data), cache, on_error, bars)
    features, views = applied.features, run.views.count if run.views.average else 1
    spec = run.parts[0].spec
    rows = features.features[spec.layer] if len(run.parts) == 1 else None
    if rows is None:  # the head reads several spaces side by side
        raise InvalidChoice(f"the head of {run.folder} reads several features side by side; map its data set instead.")
    if run.task.name != CLASSES:
        note = "The run predicts no classes: the map shows its images without predictions."
        return _Mapped(features, rows, views, decoding_of(spec), notes=(note,))
    outputs = applied.outputs.reshape(len(features.dataset), -1)
    columns, notes = _predictions(run, features.dataset, outputs)
    return _Mapped(features, rows, views, decoding_of(spec), columns, notes)


def _predictions(
    run: Run, dataset: IdentifiedDataset, outputs: np.ndarray
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What a run says of the images, and a sentence about how; of an image held out, what was said of it then."""
    note = "Predictions are those of the fitted head, which has seen the images of its training."
    outputs, splits = held_out_first(run.held_out, run.targets, dataset.digests, outputs)
    known = int((splits != NEVER).sum())
    if known:
        note = f"Predictions for {known:,} images are of heads that were not trained on them"
        note += "." if known == len(splits) else "; those for the others are of the fitted head."
    return prediction_columns(dataset.labels, run.targets, outputs, splits), (note,)


def _at_most(mapped: _Mapped, most: int, seed: int) -> _Mapped:
    """The same with no more than `most` images, drawn by `seed`."""
    features, n = mapped.features, len(mapped.features.dataset)
    if n <= most:
        return mapped
    chosen = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    part = FeatureSet(
        features.dataset.select(chosen), features.features, features.specs, features.cache, features.skipped
    )
    rows = mapped.rows[chosen * mapped.views]
    columns = {name: values[chosen] for name, values in mapped.columns.items()}
    notes = (*mapped.notes, f"{most:,} of {n:,} images, drawn at random.")
    return _Mapped(part, rows, 1, mapped.decoding, columns, notes)


def _columns(mapped: _Mapped, count: int, seed: int) -> dict[str, np.ndarray]:
    """What is known of each image, in the order in which the page offers it."""
    dataset = mapped.features.dataset
    columns: dict[str, np.ndarray] = {}
    if dataset.labels is not None:
        columns["class"] = dataset.labels
    columns |= mapped.columns
    numbers = clusters(mapped.rows, count, seed, mapped.views)
    columns["cluster"] = np.array([f"{number + 1:02d}" for number in numbers])
    for name, cells in dataset.columns.items():
        if (values := _readable(cells)) is not None:
            columns.setdefault(name, values)
    return columns


def _readable(cells: np.ndarray) -> np.ndarray | None:
    """The cells of a column of a table as categories or numbers; None where they are neither, like ids."""
    texts = cells.astype(str)
    names = np.unique(texts)
    with contextlib.suppress(ValueError):
        numbers = np.array([float(text) if text else np.nan for text in texts.tolist()])
        if len(names) > FEW_NUMBERS and not np.isinf(numbers).any():
            return numbers
    return texts if len(names) <= min(MOST_CATEGORIES, max(FEW_NUMBERS, len(texts) // 2)) else None


def _content(mapped: _Mapped, places: Projection, columns: Mapping[str, np.ndarray]) -> MapContent:
    dataset, worst = mapped.features.dataset, np.zeros(0, int)
    if "result" in columns:
        wrong = np.flatnonzero(columns["result"] == "wrong")
        worst = wrong[np.argsort(-columns["confidence"][wrong], kind="stable")]
    spec = mapped.features.specs[0]
    return MapContent(
        f"{dataset.name}: map of {spec.net}/{spec.layer}",
        places,
        dataset.ids,
        dataset.sources,
        columns,
        selection_command(dataset),
        mapped.decoding,
        mapped.notes,
        worst.tolist(),
    )


def _require_parquet() -> None:
    try:
        import pyarrow  # noqa: F401  # an extra, and slow to load
    except ImportError as error:
        raise MissingDependency("a map in Parquet needs pyarrow: pip install 'layertap[parquet]'") from error


def _write_parquet(file: Path, content: MapContent, mapped: _Mapped) -> None:
    """Write places, neighbors and columns as embedding-atlas reads them."""
    import pyarrow  # an extra, and slow to load
    import pyarrow.parquet

    rows = np.asarray(mapped.rows[:: mapped.views], np.float32)
    near = nearest(rows, rows, NEIGHBORS, metric="euclidean")
    neighbors = [
        {"ids": ids, "distances": apart} for ids, apart in zip(near.rows.tolist(), near.distances.tolist(), strict=True)
    ]
    x, y = content.projection.points.astype(np.float32).T
    columns = {name: values for name, values in content.columns.items() if name not in ("id", "x", "y", "neighbors")}
    table = pyarrow.table({"id": list(content.ids), "x": x, "y": y, "neighbors": neighbors, **columns})
    with new_file(file, "the map", sync=False) as raw:
        pyarrow.parquet.write_table(table, raw)
