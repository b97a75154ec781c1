"""Sweep: many sets of features and many heads judged on the same splits, in parallel processes.

Each result is kept in a file named by what it is a result of, so that a sweep that was interrupted, or grows, computes
only what is new.
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
from feature_cache.process.lifeline import Lifeline, end_with, signals_blocked
from feature_cache.version import own_version
from heads import user_code
from heads.evaluation.cross_validation import evaluate
from heads.evaluation.metrics import NLL_FLOOR
from heads.evaluation.protocol import Protocol
from heads.evaluation.views import Views
from heads.registry import make_head
from heads.splitting.splits import Split
from heads.threads import limited

DRAWS = 1000  # bootstrap samples


@dataclass(frozen=True)
class Pair:
    """A set of features, by its name, and a head with its parameters."""

    features: str
    head: str
    params: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Result:
    """How a pair did.

    Attributes
    ----------
    summary : dict
        See `Evaluation.summary`; empty where it failed.
    right, loss : ndarray of shape (n,)
        For each image that was held out: whether its class was found, the mean over the splits that held it out; and
        its log-loss. NaN for the others.
    error : str
        Why it failed, if it did.
    """

    pair: Pair
    summary: dict[str, Any]
    right: np.ndarray
    loss: np.ndarray
    error: str = ""

    @property
    def accuracy(self) -> float:
        """Mean over the splits; below all others where it failed."""
        return -1.0 if self.error else float(self.summary["valid"]["accuracy"]["mean"])


def sweep(
    features: Mapping[str, Any],
    pairs: Sequence[Pair],
    labels: np.ndarray,
    groups: np.ndarray,
    protocol: Protocol,
    folder: Path,
    *,
    views: Views | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Judge every pair on the splits of `protocol`.

    Parameters
    ----------
    features : mapping of str to Features
        Of the same images; each process opens them itself, and maps their files.
    labels, groups : ndarray of shape (n,)
        See `heads.splitting.splits`.
    folder : Path
        Where results are kept.
    jobs : int
        Processes; each uses one thread.
    progress : callable, optional
        Called with the number of pairs done and of all.

    Returns
    -------
    list of Result
        The best first, by accuracy and then by log-loss; what failed comes last.
    """
    views = views or Views()
    try:
        folder = real_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailure(
            f"cannot keep results in {folder}: {error.strerror or error}; choose another folder with `out`."
        ) from error
    splits = protocol.splits(labels, groups)
    files = {pair: folder / f"{_key(features[pair.features], pair, labels, splits, views)}.npz" for pair in pairs}
    results = {pair: result for pair, file in files.items() if (result := _read(file, pair, len(labels))) is not None}
    missing = [pair for pair in files if pair not in results]
    if progress and results:
        progress(len(results), len(files))
    arguments = [(features[pair.features], pair, labels, groups, splits, views) for pair in missing]
    for result in _judged(arguments, min(jobs, len(arguments))):
        results[result.pair] = result
        if not result.error:
            _write(files[result.pair], result)
        if progress:
            progress(len(results), len(files))
    in_order = [results[pair] for pair in files]  # processes end in any order, which must not decide between equals
    return sorted(in_order, key=lambda result: (-result.accuracy, np.nanmean(result.loss), result.error))


def unbiased(results: Sequence[Result], groups: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The accuracy to expect of the best of several results.

    The best score of many is too good, because it was chosen for being high. Bootstrap bias-corrected cross-validation
    (Tsamardinos, Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation") chooses on samples of the images held out, and scores what was chosen on the images left
    out of the sample. The choice is that of `sweep`, by accuracy and then by log-loss, and goes by the sample alone:
    what is still equal is drawn at random. To take the first in the order of `results` instead would prefer what is
    best on all images, those left out among them: of 60 results that guess on 30 images, 0.527 in place of 0.5.

    Predictions are bootstrapped, heads are not fitted again. A head that predicts an image of the sample was fitted on
    the labels of images that are left out, and so a chance agreement of features and labels counts on both sides. That
    part of the optimism stays, and shrinks as images are added. With shuffled labels of two classes and 60 results of
    ridge and nearest neighbours by 5 folds, 0.54 is expected on 30 images, 0.53 on 60 and 0.51 on 120, where 0.5 is
    right and choosing by inner folds gives 0.50.

    Parameters
    ----------
    results : sequence of Result
        Those that failed are passed over.
    groups : ndarray of shape (n,)
        Images of equal content are drawn together.

    Returns
    -------
    dict
        ``accuracy``, the mean over the samples, and ``low`` and ``high``, between which 95 % of them are. Where all
        images held out have one content, there is nothing to choose on: the mean of all results, between 0 and 1.
    """
    judged = [result for result in results if not result.error]
    right, loss = (np.stack([getattr(one, name) for one in judged], axis=1) for name in ("right", "loss"))
    held_out = ~np.isnan(right).any(1)
    right, loss = right[held_out], loss[held_out]
    distinct, member = np.unique(groups[held_out], return_inverse=True)
    if len(distinct) == 1:
        return {"accuracy": float(right.mean()), "low": 0.0, "high": 1.0}
    rng = np.random.default_rng(seed)
    scores: list[float] = []
    while len(scores) < DRAWS:
        weight = np.bincount(rng.integers(len(distinct), size=len(distinct)), minlength=len(distinct))[member]
        if weight.all():  # few images: the sample may leave none out
            continue
        sums = -(weight @ right).round(9), (weight @ loss).round(9)  # rounded, so that equal ones are equal
        chosen = np.lexsort((rng.random(len(judged)), sums[1], sums[0]))[0]
        scores.append(float(right[weight == 0, chosen].mean()))
    low, high = np.percentile(scores, [2.5, 97.5])
    return {"accuracy": float(np.mean(scores)), "low": float(low), "high": float(high)}


def _judged(arguments: list[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """Results as they come, from so many processes."""
    if jobs <= 1:
        for one in arguments:
            yield _judge(*one)
        return
    # Processes of their own, not forks: the threads of BLAS and Keras do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with (
        Lifeline(context) as line,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with, initargs=(line.end,)) as pool,
    ):
        try:
            with signals_blocked():
                futures = [pool.submit(_judge, *one) for one in arguments]
            for done in as_completed(futures):
                yield done.result()
        except BrokenProcessPool as error:
            raise StorageFailure(
                "a process of the sweep was killed, perhaps for want of memory. What it had judged is kept: run the "
                "same sweep again, with fewer `jobs`."
            ) from error
        except BaseException:  # the pool would wait until its processes have finished what they compute
            line.cut()
            raise


def _judge(
    features: Any, pair: Pair, labels: np.ndarray, groups: np.ndarray, splits: list[Split], views: Views
) -> Result:
    """Evaluate one pair, in one thread."""
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
    except (LayertapError, ValueError, MemoryError) as error:  # one pair that cannot be is no end of the others
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
    """What identifies a result: the rows, the head, the labels, the splits and the version of Layertap."""
    state = hashlib.sha256()
    code = user_code.digest(pair.head) if user_code.is_file(pair.head) else ""
    what = [own_version(), features.digest, pair.head, code, dict(pair.params), views.count, views.average]
    state.update(json.dumps(what, sort_keys=True).encode())
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
    """The result in a file, for this number of images; None where there is none that can be read."""
    try:
        arrays = read_arrays(file, ("summary", "right", "loss"))
        summary = json.loads(str(arrays["summary"]))
        float(summary["valid"]["accuracy"]["mean"])
        if any(arrays[name].shape != (images,) or arrays[name].dtype != np.float64 for name in ("right", "loss")):
            return None
        return Result(pair, summary, arrays["right"], arrays["loss"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
