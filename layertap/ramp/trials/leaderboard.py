"""A comparison of the submissions of a kit: scores, times, the Pareto front, and the best blend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.files.checked import read_json
from layertap.ramp.trials.scoring import OUTPUT, SCORES, bag, predictions_digest, score_types, source_digest

if TYPE_CHECKING:
    from layertap.ramp.problem import Kit

LARGEST = 80  # predictions in a blend, counted with repetitions


def rank(kit: Kit) -> dict[str, Any]:
    """The submissions that were scored on the current state of the kit, the best first, and their blend.

    Returns
    -------
    dict
        ``scores``, the names of the scores, the official one first; ``submissions``, a list of dicts with ``name``,
        ``folds``, how many there are, ``mean`` and ``sd`` over the folds of the scores of the parts held out, ``test``,
        bagged scores of the test images, ``train_seconds`` and ``test_seconds`` of a fold, ``pareto``, whether none
        other is at least as good in the official score and both times and better in one, and ``contributivity``, its
        share of the blends of all folds; ``blend``, with the bagged scores of the blends, ``valid`` and ``test``;
        ``stale``, the names of those that were changed since, or scored on other data.
    """
    train, test = kit.train(), kit.test()
    digest, scores = kit.digest(train, test), score_types(kit.problem)
    lower = scores[0].is_lower_the_better
    entries, stale = [], []
    for name in kit.submissions():
        path = kit.folder / "submissions" / name
        try:
            result = read_json(path / OUTPUT / SCORES)
            current = {"kit": digest, "source": source_digest(path), "predictions": predictions_digest(path / OUTPUT)}
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            stale.append(name)
            continue
        if not isinstance(result, dict) or any(result.get(name) != value for name, value in current.items()):
            stale.append(name)
            continue
        try:
            entries.append(_entry(name, result, [score.name for score in scores]))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):  # it was altered
            stale.append(name)
    entries.sort(key=lambda entry: entry["mean"][scores[0].name], reverse=not lower)
    costs = [
        (entry["mean"][scores[0].name] * (1 if lower else -1), entry["train_seconds"], entry["test_seconds"])
        for entry in entries
    ]
    for entry, front in zip(entries, pareto(costs), strict=True):
        entry["pareto"] = front
    blend: dict[str, Any] = {}
    if entries:
        blend = _blended(kit, train, test, scores, entries)
    return {"scores": [score.name for score in scores], "submissions": entries, "blend": blend, "stale": stale}


def pareto(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Which rows no other is at least as low as in every column, and lower than in one."""
    if not costs:
        return []
    table = np.asarray(costs, float)
    return [not ((table <= row).all(1) & (table < row).any(1)).any() for row in table]


def greedy_blend(problem: Any, predictions: Sequence[Any], truth: Any, score: Any) -> list[int]:
    """Select predictions, with repetitions, whose mean has the best score.

    The best prediction comes first, then again and again the one that improves the mean most (Caruana et al. 2004,
    "Ensemble selection from libraries of models", forward selection with replacement).

    Parameters
    ----------
    problem
        Its `Predictions` says how predictions are combined.
    predictions : sequence of Predictions
    truth : Predictions
    score : score type of ramp-workflow

    Returns
    -------
    list of int
        Positions in `predictions`.
    """
    sign = 1 if score.is_lower_the_better else -1

    def cost(numbers: list[int]) -> float:
        combined = problem.Predictions.combine([predictions[n] for n in numbers])
        return sign * float(score.score_function(truth, combined))

    chosen = [int(np.argmin([sign * score.score_function(truth, one) for one in predictions]))]
    best = cost(chosen)
    while len(chosen) < LARGEST:
        costs = [cost([*chosen, one]) for one in range(len(predictions))]
        least = int(np.argmin(costs))
        if costs[least] >= best:
            break
        best = costs[least]
        chosen.append(least)
    return chosen


def _entry(name: str, result: dict[str, Any], scores: list[str]) -> dict[str, Any]:
    folds = result["folds"]
    valid = {score: [fold["valid"][score] for fold in folds] for score in scores}
    tested = "test" if "test" in folds[0] else "valid"
    return {
        "name": name,
        "folds": len(folds),
        "mean": {score: float(np.mean(values)) for score, values in valid.items()},
        "sd": {score: float(np.std(values)) for score, values in valid.items()},
        "bagged": result["bagged"]["valid"],
        "test": result["bagged"].get("test"),
        "train_seconds": float(np.mean([fold["train"]["time"] for fold in folds])),
        "test_seconds": float(np.mean([fold[tested]["time"] for fold in folds])),
    }


def _blended(kit: Kit, train: Any, test: Any, scores: list[Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The scores of the blends of all folds; the contributivity is added to `entries`."""
    problem, shares = kit.problem, np.zeros(len(entries))
    Predictions = problem.Predictions
    outputs = [kit.folder / "submissions" / entry["name"] / OUTPUT for entry in entries]
    folds = [rows for _, rows in problem.get_cv(train.X, train.y)]
    valid, tested = [], []
    for number, rows in enumerate(folds):
        truth = Predictions(y_true=train.y, fold_is=rows)
        predictions = [Predictions(y_pred=_saved(out, number, "train"), fold_is=rows) for out in outputs]
        chosen = greedy_blend(problem, predictions, truth, scores[0])
        for position, count in Counter(chosen).items():
            shares[position] += count / len(chosen) / len(folds)
        valid.append(Predictions.combine([predictions[n] for n in chosen]))
        if test is not None and test.y is not None:
            parts = [Predictions(y_pred=_saved(outputs[n], number, "test")) for n in chosen]
            tested.append(Predictions.combine(parts))
    for position, entry in enumerate(entries):
        entry["contributivity"] = float(shares[position])
    blended = {"valid": bag(problem, scores, train.y, valid, folds)[1]}
    if tested:
        blended["test"] = bag(problem, scores, test.y, tested)[1]
    return blended


def _saved(out: Path, fold: int, part: str) -> np.ndarray:
    with np.load(out / f"fold_{fold}" / f"y_pred_{part}.npz", allow_pickle=False) as arrays:
        predictions: np.ndarray = arrays["y_pred"]
    return predictions
