"""What a trial stores for the leaderboard: scores, and digests that show whether they are still valid."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from feature_cache.files.checked import open_regular, read_bytes

OUTPUT, SCORES = "training_output", "scores.json"  # in the folder of a submission, and in that


def score_types(problem: Any) -> list[Any]:
    """The scores of a kit, the official one first; a kit with classes always has the balanced accuracy among them."""
    from rampwf.score_types import BalancedAccuracy  # optional, and slow to load

    scores = list(problem.score_types)
    of_classes = hasattr(problem.Predictions, "y_pred_label_index")
    if not of_classes or any(isinstance(one, BalancedAccuracy) for one in scores):
        return scores
    return [*scores, BalancedAccuracy(name="bal_acc", precision=3, adjusted=False)]


def bag(problem: Any, scores: list[Any], y: Any, parts: list[Any], rows: Any = None) -> tuple[Any, dict[str, float]]:
    """The mean of the predictions of all folds, and its scores."""
    from rampwf.utils.combine import get_score_cv_bags  # optional, and slow to load

    truth, values = problem.Predictions(y_true=y), {}
    for score in scores:
        combined, by_folds = get_score_cv_bags(score, parts, truth, test_is_list=rows)
        values[score.name] = float(by_folds[-1])
    return combined, values


def source_digest(submission: Path) -> str:
    """The digest of all Python files of a submission."""
    state = hashlib.sha256()
    for file in sorted(submission.glob("*.py")):
        state.update(file.name.encode() + b"\0" + read_bytes(file) + b"\0")
    return state.hexdigest()[:16]


def predictions_digest(out: Path) -> str:
    """The digest of the predictions of all folds in a ``training_output``, which `ramp-test` may replace."""
    state = hashlib.sha256()
    for file in sorted(out.glob("fold_*/y_pred_*.npz")):
        state.update(f"{file.parent.name}/{file.name}".encode())
        with open_regular(file) as stream:
            while piece := stream.read(2**20):
                state.update(piece)
    return state.hexdigest()[:16]
