"""The scores that are shown to people: their labels, their order and how many digits they have. To add one, add a row.

The scores themselves are computed in `heads.evaluation.metrics`, under the same keys.
"""

from __future__ import annotations

from typing import NamedTuple

from heads.registry import TASKS


class ShownScore(NamedTuple):
    """How a score is shown.

    Attributes
    ----------
    label : str
        Its name in tables and reports.
    decimals : int
        In tables.
    format : str
        In reports, a format specification.
    in_tables : bool
        Whether tables in the terminal have a column for it; reports show every score.
    """

    label: str
    decimals: int = 4
    format: str = ".4f"
    in_tables: bool = True


SCORES = {
    "accuracy": ShownScore("accuracy"),
    "balanced_accuracy": ShownScore("balanced accuracy"),
    "top_5": ShownScore("top-5 accuracy", in_tables=False),
    "nll": ShownScore("log-loss"),
    "ece": ShownScore("calibration error"),
    "auroc": ShownScore("AUROC"),
    "roc_auc": ShownScore("ROC AUC, macro", in_tables=False),
    "r2": ShownScore("R²"),
    "rmse": ShownScore("RMSE", format=".4g"),
    "mae": ShownScore("mean abs. error", format=".4g"),
    "average_precision": ShownScore("average precision"),
    "f1_max": ShownScore("F1, best threshold"),
    "f1": ShownScore("F1"),
    "recall": ShownScore("recall"),
    "false_positive_rate": ShownScore("false positives"),
    "f1_micro": ShownScore("F1 micro"),
    "f1_macro": ShownScore("F1 macro"),
    "subset_accuracy": ShownScore("all labels right"),
    "n": ShownScore("images", 0, ",.0f"),
    "fit_seconds": ShownScore("fit (s)", 2, ".3g"),
    "predict_seconds": ShownScore("predict (s)", 3, ".3g"),
}
CLASSES, REGRESSION, MULTILABEL, ANOMALIES = TASKS
# The scores that one line has room for, by task.
HEADLINES = {
    CLASSES: ("accuracy", "nll"),
    REGRESSION: ("r2", "rmse"),
    MULTILABEL: ("average_precision", "f1_micro"),
    ANOMALIES: ("auroc", "f1"),
}
