"""`layertap.compare`: spaces of features beside each other, or two runs, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice
from layertap.analysis.paired_predictions import PairedComparison, compare_predictions
from layertap.analysis.similarity import linear_cka, rsa, unbiased_cka
from layertap.progress import ProgressBar, progress_bars
from layertap.runs import Run, load_run
from layertap.workflows.extract import stored_or_extracted
from layertap.workflows.load_dataset import Source, load_dataset
from layertap.workflows.predict import predict
from layertap.workflows.training.targets import CLASSES
from transfer.request import FeatureRequest

SAMPLE = 2000  # images by which spaces are compared pair by pair


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike spaces of features are; all tables are of shape (spaces, spaces).

    Attributes
    ----------
    spaces : tuple of str
        Their layers, each with its net.
    images : int
        The images of `cka`.
    sample : int
        The images of `unbiased_cka` and `rsa`, drawn by the seed.
    cka, unbiased_cka, rsa : ndarray
        See `layertap.analysis.similarity`; RSA is by ranks.
    """

    spaces: tuple[str, ...]
    images: int
    sample: int
    cka: np.ndarray
    unbiased_cka: np.ndarray
    rsa: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it; None for a space in which all images are the same."""
        tables = {name: _finite(getattr(self, name)) for name in ("cka", "unbiased_cka", "rsa")}
        return {"spaces": list(self.spaces), "images": self.images, "sample": self.sample, **tables}


def compare_spaces(
    data: Source,
    requests: Sequence[FeatureRequest],
    *,
    cache: FeatureCache | str | Path | None = None,
    seed: int = 0,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> Similarity:
    """Compare spaces of features, all with all, on the images of a data set; what the cache lacks is extracted.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
    requests : sequence of FeatureRequest
        At least two layers in all. Of several views of an image, the first is compared.
    cache : FeatureCache, str or Path, optional
    seed : int
        Of the sample of images that are compared pair by pair.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Raises
    ------
    InvalidChoice
        When there are fewer than two spaces.
    BadData
        When there are too few images, or features are infinite or not numbers.

    Examples
    --------
    >>> from transfer.nets.catalogue import Net
    >>> request = FeatureRequest(Net("glyphnet"), ("block3_pool", "block4_pool"))
    >>> found = compare_spaces("digits", [request], progress=False)
    >>> found.spaces, bool(0 < found.cka[0, 1] < 1)
    (('glyphnet:block3_pool', 'glyphnet:block4_pool'), True)
    """
    store = as_cache(cache)
    dataset = load_dataset(data).identify(store)
    stored = partial(stored_or_extracted, cache=store, on_error=on_error, progress=progress_bars(progress))
    sets = [stored(dataset, request) for request in requests]
    spaces = {f"{spec.net}:{spec.layer}": each.plain_rows(spec.layer) for each in sets for spec in each.specs}
    if len(spaces) < 2:
        raise InvalidChoice("at least two different spaces are compared; name another with `layers`.")
    if len({each.dataset.ids for each in sets}) > 1:
        raise InvalidChoice("the nets cannot read the same images; mend or remove those that are skipped.")
    count = len(sets[0].dataset)
    drawn = np.sort(np.random.default_rng(seed).permutation(count)[:SAMPLE])
    rows, sample = list(spaces.values()), [np.asarray(each[drawn]) for each in spaces.values()]
    return Similarity(
        tuple(spaces),
        count,
        len(drawn),
        *(_table(function, parts) for function, parts in ((linear_cka, rows), (unbiased_cka, sample), (rsa, sample))),
    )


@dataclass(frozen=True, eq=False)
class RunComparison:
    """Two runs on the same labelled images.

    Attributes
    ----------
    runs : (str, str)
    comparison : PairedComparison
    only_first, only_second : tuple of str
        The ids of the images that only one of the runs predicts correctly.
    notes : tuple of str
    """

    runs: tuple[str, str]
    comparison: PairedComparison
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        numbers = ("images", "accuracy", "difference", "interval", "agreement", "kappa", "p_value")
        values = {name: getattr(self.comparison, name) for name in numbers}
        ids = {"only_first": list(self.only_first), "only_second": list(self.only_second)}
        return {"runs": list(self.runs), **values, **ids, "notes": list(self.notes)}


def compare_runs(
    data: Source,
    first: Run | str | Path,
    second: Run | str | Path,
    *,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> RunComparison:
    """Compare the classes that two runs predict of the images of a data set.

    Images that only one of the runs can read are left out, with a note.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
        Images with classes, which neither run was trained on.
    first, second : Run, str or Path
        The runs, or their folders.
    cache, on_error, progress
        See `compare_spaces`.

    Raises
    ------
    InvalidChoice
        When a run predicts no classes, the images have none, or no image is read by both.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> runs = [lt.train_head("digits", features, head, cv=3, progress=False) for head in ("ridge", "lda")]
    >>> compare_runs("digits", *runs, progress=False).comparison.agreement > 0.9
    True
    """
    dataset = load_dataset(data)
    runs = [run if isinstance(run, Run) else load_run(run) for run in (first, second)]
    if dataset.labels is None:
        raise InvalidChoice(f"{dataset.name} has no classes, by which runs are compared.")
    for run in runs:
        if run.task.name != CLASSES:
            raise InvalidChoice(f"{run.folder} predicts no classes; runs are compared by classes.")
    predictions = [predict(run, dataset, cache=cache, on_error=on_error, progress=progress) for run in runs]
    classes = [dict(zip(each.ids, each.classes, strict=True)) for each in predictions]
    chosen = [place for place, name in enumerate(dataset.ids) if all(name in each for each in classes)]
    if not chosen:
        raise InvalidChoice("the runs have no image in common that both can read.")
    ids = [dataset.ids[place] for place in chosen]
    truth = dataset.labels[np.array(chosen)]
    found = compare_predictions(truth, *(np.array([each[name] for name in ids]) for each in classes))
    left_out = len(dataset) - len(ids)
    note = f"{left_out:,} of {len(dataset):,} images cannot be read by both runs: the other {len(ids):,} are compared."
    names = str(runs[0].folder or "first"), str(runs[1].folder or "second")
    only_first, only_second = (
        tuple(ids[place] for place in part.tolist()) for part in (found.only_first, found.only_second)
    )
    return RunComparison(names, found, only_first, only_second, (note,) if left_out else ())


def _table(function: Any, rows: Sequence[Any]) -> np.ndarray:
    """A symmetric table of a function of two spaces."""
    table = np.ones((len(rows), len(rows)))
    for i, one in enumerate(rows):
        for j in range(i):
            table[i, j] = table[j, i] = function(one, rows[j])
    return table


def _finite(table: np.ndarray) -> list[list[float | None]]:
    return [[value if np.isfinite(value) else None for value in line] for line in table.tolist()]
