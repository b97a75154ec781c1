"""Many pairs of features and heads are scored on the same splits, in parallel processes, for `sweep`.

Each result has a file whose name is a digest of everything that it depends on. So a sweep that was interrupted, or that
is repeated with more pairs, computes only the results that are missing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import LayertapError, StorageFailure, one_line
from feature_cache.files.atomic import replacement
from feature_cache.files.checked import read_arrays, real_path
from feature_cache.process.lifeline import Lifeline, end_with, main_module_hidden, signals_blocked
from feature_cache.version import own_version
from heads import user_code
from heads.evaluation.cross_validation import evaluate
from heads.evaluation.metrics import NLL_FLOOR
from heads.evaluation.protocol import Protocol
from heads.evaluation.views import Views
from heads.registry import make_head
from heads.splitting.splits import Split
from heads.threads import limited

DRAWS = 1000  # the number of bootstrap samples


@dataclass(frozen=True)
class Pair:
    """A set of features, by its name, and a head with its parameters."""

    features: str
    head: str
    params: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Result:
    """The scores of a pair.

    Attributes
    ----------
    pair : Pair
    summary : dict
        See `Evaluation.summary`; empty where the pair failed.
    right, loss : ndarray of shape (n,)
        For each image that was held out: the share of the splits that held it out and predicted it right; and its mean
        log-loss. NaN for all other images.
    error : str
        The reason why the pair failed; empty where it did not.
    """

    pair: Pair
    summary: dict[str, Any]
    right: np.ndarray
    loss: np.ndarray
    error: str = ""

    @property
    def accuracy(self) -> float:
        """The mean accuracy over the splits; -1 where the pair failed."""
        return -1.0 if self.error else float(self.summary["valid"]["accuracy"]["mean"])


def sweep(
    features: Mapping[str, Any],
    pairs: Sequence[Pair],
    labels: np.ndarray,
    groups: np.ndarray,
    protocol: Protocol,
    folder: Path | None = None,
    *,
    views: Views | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Score every pair on the splits of `protocol`.

    Parameters
    ----------
    features : mapping of str to Features
        Features of the same images, by name. Each process opens their files itself, and maps them into memory.
    pairs : sequence of Pair
    labels, groups : ndarray of shape (n,)
        The classes of the images, and values that are equal for images that stay together (see
        `heads.splitting.splits`).
    protocol : Protocol
    folder : Path, optional
        The folder of the results. Results that it holds already are not computed again.
    views : Views, optional
        How the views of images are used; by default there is one view.
    jobs : int
        The number of processes; each of them uses one thread.
    progress : callable, optional
        Called with the number of pairs that are done, and of all pairs.

    Returns
    -------
    list of Result
        The best first, by accuracy and then by log-loss; pairs that failed come last.

    Raises
    ------
    StorageFailure
        When the folder cannot be written, or a process is killed.
    """
    views = views or Views()
    splits = protocol.splits(labels, groups)
    files: dict[Pair, Path] = {}
    if folder is not None:
        folder = _result_folder(folder)
        files = {pair: folder / f"{_key(features[pair.features], pair, labels, splits, views)}.npz" for pair in pairs}
    results = {pair: result for pair, file in files.items() if (result := _read(file, pair, len(labels))) is not None}
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in results]
    total = len(results) + len(missing)
    if progress and results:
        progress(len(results), total)
    arguments = [(features[pair.features], pair, labels, groups, splits, views) for pair in missing]
    for result in _evaluated(arguments, min(jobs, len(arguments))):
        results[result.pair] = result
        if files and not result.error:
            _write(files[result.pair], result)
        if progress:
            progress(len(results), total)
    # Processes end in any order, which must not decide between equal results.
    in_order = [results[pair] for pair in dict.fromkeys(pairs)]
    return sorted(in_order, key=lambda result: (-result.accuracy, np.nanmean(result.loss), result.error))


def _result_folder(folder: Path) -> Path:
    """The folder of the results, which is made if it does not exist."""
    try:
        folder = real_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailure(
            f"cannot keep results in {folder}: {error.strerror or error}; choose another folder with `out`."
        ) from error
    return folder


def unbiased(results: Sequence[Result], groups: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The accuracy to expect of the best of several results on new images.

    The best score of many is too high, because it was chosen for being high. Bootstrap bias-corrected cross-validation
    (Tsamardinos, Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation") chooses a result on a sample of the held-out images, and scores it on the images outside
    the sample. The choice is that of `sweep`, by accuracy and then by log-loss, from the sample alone: results that are
    still equal are drawn at random. To take the first of them in the order of `results` would prefer what is best on
    all images, including those outside the sample: for 60 results that guess on 30 images, 0.527 instead of 0.5.

    Predictions are bootstrapped; heads are not fitted again. A head that predicts an image of the sample was fitted to
    the labels of images outside it, so a chance agreement of features and labels counts on both sides. That part of the
    optimism remains, and is smaller with more images. With shuffled labels of two classes and 60 results of ridge and
    nearest neighbours by 5 folds, the expectation is 0.54 for 30 images, 0.53 for 60 and 0.51 for 120, where 0.5 is
    right and a choice by inner folds gives 0.50.

    Parameters
    ----------
    results : sequence of Result
        Results that failed are ignored.
    groups : ndarray of shape (n,)
        Images of a group are drawn together.
    seed : int
        The seed of the samples.

    Returns
    -------
    dict
        ``accuracy``, the mean over the samples, and ``low`` and ``high``, between which 95 % of the samples are. Where
        all held-out images are one group, no choice is possible: the mean of all results, between 0 and 1.
    """
    valid = [result for result in results if not result.error]
    right, loss = (np.stack([getattr(one, name) for one in valid], axis=1) for name in ("right", "loss"))
    held_out = ~np.isnan(right).any(1)
    right, loss = right[held_out], loss[held_out]
    distinct, member = np.unique(groups[held_out], return_inverse=True)
    if len(distinct) == 1:
        return {"accuracy": float(right.mean()), "low": 0.0, "high": 1.0}
    rng = np.random.default_rng(seed)
    scores: list[float] = []
    while len(scores) < DRAWS:
        weight = np.bincount(rng.integers(len(distinct), size=len(distinct)), minlength=len(distinct))[member]
        if weight.all():  # a sample of few images may contain all of them
            continue
        sums = -(weight @ right).round(9), (weight @ loss).round(9)  # rounding errors must not decide
        chosen = np.lexsort((rng.random(len(valid)), sums[1], sums[0]))[0]
        scores.append(float(right[weight == 0, chosen].mean()))
    low, high = np.percentile(scores, [2.5, 97.5])
    return {"accuracy": float(np.mean(scores)), "low": float(low), "high": float(high)}


def _evaluated(arguments: list[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """The results of `_evaluate_pair` for each tuple of arguments, in any order, from this number of processes."""
    if jobs <= 1:
        for one in arguments:
            yield _evaluate_pair(*one)
        return
    # The processes are spawned, not forked, because the threads of BLAS and Keras do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with (
        Lifeline(context) as line,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with, initargs=(line.end,)) as pool,
    ):
        try:
            with signals_blocked(), main_module_hidden():
                futures = [pool.submit(_evaluate_pair, *one) for one in arguments]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise StorageFailure(
                "a process of the sweep was killed, perhaps because memory ran out. Finished results are kept: run the "
                "same sweep again, with fewer `jobs`."
            ) from error
        except BaseException:  # without this, the pool would wait until its processes have finished their work
            line.cut()
            raise


def _evaluate_pair(
    features: Any, pair: Pair, labels: np.ndarray, groups: np.ndarray, splits: list[Split], views: Views
) -> Result:
    """Score one pair, in one thread."""
    empty = np.full(len(labels), np.nan)
    try:
        with limited(1, openmp=True):
            evaluation = evaluate(
                {pair.features: features},
                labels,
                groups,
                splits,
                lambda: make_head(pair.head, dict(pair.params)),
                views=views,
            )
    except (LayertapError, ValueError, MemoryError) as error:  # the other pairs go on
        return Result(pair, {}, empty, empty, one_line(error))
    column = np.searchsorted(np.unique(labels), labels)
    right, loss, times = np.zeros(len(labels)), np.zeros(len(labels)), np.zeros(len(labels))
    for rows, truth, predicted, probabilities in zip(
        evaluation.rows, evaluation.truth, evaluation.predicted, evaluation.outputs, strict=True
    ):
        right[rows] += truth == predicted
        loss[rows] -= np.log(np.clip(probabilities[np.arange(len(rows)), column[rows]], NLL_FLOOR, 1))
        times[rows] += 1
    with np.errstate(invalid="ignore"):
        return Result(pair, evaluation.summary(), right / times, loss / times)


def _key(features: Any, pair: Pair, labels: np.ndarray, splits: list[Split], views: Views) -> str:
    """The digest of everything that a result depends on: features, head, labels, splits and version of Layertap."""
    state = hashlib.sha256()
    code = user_code.digest(pair.head) if user_code.is_file(pair.head) else ""
    settings = [own_version(), features.digest, pair.head, code, dict(pair.params), views.count, views.average]
    state.update(json.dumps(settings, sort_keys=True).encode())
    for array in (np.asarray(features.keys()[0]), labels.astype(str), *(rows for split in splits for rows in split)):
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:32]


def _write(file: Path, result: Result) -> None:
    """Write a result, which appears as a whole or not at all."""
    try:
        with replacement(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, summary=json.dumps(result.summary), right=result.right, loss=result.loss)
    except OSError as error:
        raise StorageFailure(f"cannot write the results in {file.parent}: {error.strerror or error}.") from error


def _read(file: Path, pair: Pair, images: int) -> Result | None:
    """The result in a file, for this number of images; None where there is no such file, or it cannot be read."""
    try:
        arrays = read_arrays(file, ("summary", "right", "loss"))
        summary = json.loads(str(arrays["summary"]))
        float(summary["valid"]["accuracy"]["mean"])
        if any(arrays[name].shape != (images,) or arrays[name].dtype != np.float64 for name in ("right", "loss")):
            return None
        return Result(pair, summary, arrays["right"], arrays["loss"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
