"""Runs beside each other: what they predict of the same labelled images."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice
from feature_cache.files.digest_list import digest_keys
from heads.evaluation.metrics import score, with_columns_of
from layertap.analysis.paired_predictions import PairedComparison, compare_predictions, holm
from layertap.held_out import NEVER, held_out_first
from layertap.progress import ProgressBar, progress_bars
from layertap.report import compare_page
from layertap.run_config import RunConfig
from layertap.runs import Run, load_run
from layertap.workflows.load_dataset import Source, load_dataset
from layertap.workflows.predict import apply_run
from layertap.workflows.training.targets import CLASSES
from transfer.data.dataset import Dataset
from transfer.data.images import DEFAULT, Decoding, decoding_of

NUMBERS = ("difference", "interval", "agreement", "kappa", "p_value")


@dataclass(frozen=True, eq=False, repr=False)
class RunComparison:
    """Runs on the same labelled images.

    Attributes
    ----------
    runs : tuple of str
        Their folders.
    scores : tuple of dict
        The scores of each run (see `heads.evaluation.metrics.score`).
    pairs : tuple of PairedComparison
        Of all pairs, those of the first run first. The p-values of several pairs are corrected by `holm`.
    classes : tuple of str
    outputs : tuple of ndarray of shape (n, k)
        The probability that each run gives to each of the classes.
    data : Dataset
        The images that all runs read.
    configs : tuple of RunConfig
        How the runs were made.
    notes : tuple of str
    decoding : Decoding
        How the images are decoded for the page.
    """

    runs: tuple[str, ...]
    scores: tuple[dict[str, Any], ...]
    pairs: tuple[PairedComparison, ...]
    classes: tuple[str, ...]
    outputs: tuple[np.ndarray, ...]
    data: Dataset
    configs: tuple[RunConfig, ...]
    notes: tuple[str, ...] = ()
    decoding: Decoding = DEFAULT

    @property
    def predictions(self) -> tuple[np.ndarray, ...]:
        """The class that each run predicts of each image: arrays of shape (n,), str."""
        return tuple(np.array(self.classes)[outputs.argmax(1)] for outputs in self.outputs)

    @property
    def comparison(self) -> PairedComparison:
        """The comparison of the first two runs."""
        return self.pairs[0]

    @property
    def only_first(self) -> tuple[str, ...]:
        """The ids of the images that the first run predicts correctly, and the second one does not."""
        return tuple(self.data.ids[place] for place in self.comparison.only_first.tolist())

    @property
    def only_second(self) -> tuple[str, ...]:
        """The ids of the images that the second run predicts correctly, and the first one does not."""
        return tuple(self.data.ids[place] for place in self.comparison.only_second.tolist())

    def __repr__(self) -> str:
        if len(self.runs) > 2:
            accuracies = (f"{name} {each['accuracy']:.4f}" for name, each in zip(self.runs, self.scores, strict=True))
            return f"<RunComparison of {', '.join(accuracies)}>"
        difference, (low, high) = self.comparison.difference, self.comparison.interval
        return f"<RunComparison of {' and '.join(self.runs)}: {difference:+.4f} ({low:+.4f} to {high:+.4f})>"

    def write_page(self, file: str | Path) -> None:
        """Write a page with the runs beside each other and images that some of them mistake; it needs no other file.

        Raises
        ------
        StorageFailure
            When it cannot be written.
        """
        compare_page.write_runs(Path(file), self)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it: of two runs their comparison, of more the scores and all comparisons."""
        content: dict[str, Any] = {"runs": list(self.runs), "images": len(self.data)}
        if len(self.runs) == 2:
            content |= {"accuracy": self.comparison.accuracy, **_numbers(self.comparison)}
            content |= {"only_first": list(self.only_first), "only_second": list(self.only_second)}
        else:
            names = itertools.combinations(self.runs, 2)
            content["pairs"] = [
                {"runs": list(pair), **_numbers(of)} for pair, of in zip(names, self.pairs, strict=True)
            ]
        return {**content, "scores": list(self.scores), "notes": list(self.notes)}


def _numbers(pair: PairedComparison) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in NUMBERS}


@dataclass(frozen=True, eq=False)
class _Said:
    """What a run says of the images that it reads: probabilities by id."""

    ids: tuple[str, ...]
    outputs: np.ndarray
    held_out: int
    learned: int  # images that it was trained on, and never held out


def compare_runs(
    data: Source,
    runs: Sequence[Run | str | Path],
    *,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> RunComparison:
    """Compare the classes that runs predict of the images of a data set.

    What a run predicted of an image when it was held out counts in place of what its head predicts now, since that has
    been trained on it. Images that only some of the runs can read are left out, with a note.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
        Images with classes.
    runs : sequence of Run, str or Path
        At least two runs, or their folders.
    cache : FeatureCache, str or Path, optional
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Raises
    ------
    InvalidChoice
        When there are fewer than two runs, one predicts no classes, the images have none, or no image is read by all.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> runs = [lt.train_head("digits", features, head, cv=3, progress=False) for head in ("ridge", "lda")]
    >>> compare_runs("digits", runs, progress=False).comparison.agreement > 0.9
    True
    """
    if len(runs) < 2:
        raise InvalidChoice(f"at least two runs are compared; received {len(runs)}.")
    dataset = load_dataset(data)
    loaded = [run if isinstance(run, Run) else load_run(run) for run in runs]
    for name, times in Counter(_names(loaded)).items():
        if times > 1:
            raise InvalidChoice(f"{name} is named {times} times; compare different runs.")
    if dataset.labels is None:
        raise InvalidChoice(f"{dataset.name} has no classes, by which runs are compared.")
    for run in loaded:
        if run.task.name != CLASSES:
            raise InvalidChoice(f"{run.folder} predicts no classes; runs are compared by classes.")
    bars, store = progress_bars(progress), as_cache(cache)
    classes = np.unique(np.concatenate([dataset.labels, *(np.array(run.targets) for run in loaded)]))
    said = [_said(run, dataset, classes, store, on_error, bars) for run in loaded]
    known = [set(each.ids) for each in said]
    chosen = np.array([place for place, name in enumerate(dataset.ids) if all(name in each for each in known)], int)
    if not len(chosen):
        raise InvalidChoice("the runs have no image in common that all can read.")
    shown = dataset.select(chosen)
    outputs = tuple(_of_images(each, shown.ids) for each in said)
    assert shown.labels is not None
    truth, predicted = shown.labels, [classes[each.argmax(1)] for each in outputs]
    alone = [compare_predictions(truth, *pair) for pair in itertools.combinations(predicted, 2)]
    corrected = holm([pair.p_value for pair in alone])
    pairs = tuple(replace(pair, p_value=p_value) for pair, p_value in zip(alone, corrected, strict=True))
    return RunComparison(
        _names(loaded),
        tuple(score(classes, truth, each) for each in outputs),
        pairs,
        tuple(classes.tolist()),
        outputs,
        shown,
        tuple(run.config for run in loaded),
        tuple(_notes(loaded, said, len(dataset), len(shown))),
        decoding_of(loaded[0].spec),
    )


def _said(
    run: Run, dataset: Dataset, classes: np.ndarray, cache: FeatureCache, on_error: str, bars: ProgressBar
) -> _Said:
    """What a run says of the images; of an image that it held out, what it said then."""
    applied = apply_run(run, dataset, cache, on_error, bars)
    outputs, splits = held_out_first(run.held_out, run.targets, applied.features.digests, applied.outputs)
    whole = with_columns_of(classes, np.array(run.targets), outputs)
    known = run.trained_on
    learned = sum(key in known for key in digest_keys(applied.features.digests[splits == NEVER])) if known else 0
    return _Said(tuple(applied.features.dataset.ids), whole, int((splits != NEVER).sum()), learned)


def _of_images(said: _Said, ids: Sequence[str]) -> np.ndarray:
    places = dict(zip(said.ids, range(len(said.ids)), strict=True))
    return said.outputs[[places[name] for name in ids]]


def _judged_repeatedly(run: Run) -> bool:
    """Whether several heads judged the same images: their mean errs less than one of them."""
    protocol = run.config.protocol or {}
    draws = protocol.get("draws") if protocol.get("per_class") else 1
    return (protocol.get("repeats") or 1) > 1 or (draws or 1) > 1


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    """What the runs are called: their folders, or their numbers where they were not written."""
    return tuple(str(run.folder or f"run {number}") for number, run in enumerate(runs, 1))


def _notes(runs: Sequence[Run], said: Sequence[_Said], total: int, compared: int) -> list[str]:
    notes = []
    if compared < total:
        every, lost = "both" if len(runs) == 2 else "all", total - compared
        notes.append(
            f"{lost:,} of {total:,} images cannot be read by {every} runs: the other {compared:,} are compared."
        )
    names = _names(runs)
    if any(each.held_out for each in said):
        counts = ", ".join(f"{name} {each.held_out:,}" for name, each in zip(names, said, strict=True))
        notes.append(f"Of images that a run held out, what it predicted then is compared: {counts}.")
    for name, run, each in zip(names, runs, said, strict=True):
        if each.held_out and _judged_repeatedly(run):
            notes.append(f"{name} held images out several times: the mean of its predictions is compared.")
        if each.learned:
            notes.append(f"{name} was trained on {each.learned:,} of these images: it looks better than it is.")
    return notes
