"""The heads by name: what a head is, and how one is made.

A new head is a class with the methods of `Head`, or a function that makes such an object; its name is added to `HEADS`,
to `REGRESSORS` or to `DETECTORS`. Heads are imported only when they are made, because scikit-learn and Keras are heavy.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from feature_cache.errors import InvalidChoice, unknown
from heads import user_code

HEADS = {  # for classes: the class of each head, or a function that makes it
    "auto": "heads.auto:AutoHead",
    "logistic": "heads.wrappers.classifiers:LogisticHead",
    "linear": "heads.linear.head:LinearHead",
    "ridge": "heads.ridge.classifier:RidgeHead",
    "linear-svm": "heads.wrappers.classifiers:LinearSVMHead",
    "svm-rbf": "heads.wrappers.classifiers:svm_rbf",
    "lda": "heads.wrappers.classifiers:lda",
    "prototypes": "heads.wrappers.classifiers:prototypes",
    "knn": "heads.wrappers.classifiers:knn",
    "random-forest": "heads.wrappers.classifiers:random_forest",
    "hist-gradient-boosting": "heads.wrappers.classifiers:hist_gradient_boosting",
    "mlp": "heads.neural.mlp:MLPHead",
    "conv": "heads.neural.conv:ConvHead",
}
REGRESSORS = {  # for targets that are numbers
    "ridge": "heads.ridge.regressor:RidgeRegressor",
    "linear-svm": "heads.wrappers.regressors:LinearSVMRegressor",
    "svm-rbf": "heads.wrappers.regressors:svm_rbf",
    "knn": "heads.wrappers.regressors:knn",
    "random-forest": "heads.wrappers.regressors:random_forest",
    "hist-gradient-boosting": "heads.wrappers.regressors:hist_gradient_boosting",
}
DETECTORS = {"patchcore": "heads.anomalies.patchcore:PatchCore"}  # of anomalies, which learn one class
TASKS = ("classes", "regression", "multilabel", "anomalies")  # what a head predicts (see `heads.evaluation.tasks`)


class Head(Protocol):
    """What every head can do: it is an estimator by scikit-learn's rules, with files of its own.

    Heads for numbers have neither `classes_` nor `predict_proba`. Detectors of anomalies have `anomaly_scores` instead,
    which are above 1 for what they call an anomaly, and `anomaly_maps`; `fit` ignores their targets.

    A head that splits its training rows takes ``groups`` in `fit` as well (see `heads.splitting.fit_groups`). A head
    may have two class attributes: ``reads_batches``, true where `fit` takes rows that are read from disk batch by batch
    (`feature_cache.lazy_rows`), and ``reads_keys``, true where it wants them so even when they are few, because it
    stores results under the keys of the rows, or needs to know how they are joined.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in sorted order, which is that of the columns of `predict_proba`.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: np.ndarray) -> Self: ...

    def predict(self, X: Any) -> np.ndarray: ...

    def predict_proba(self, X: Any) -> np.ndarray: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def save(self, folder: Path) -> None:
        """Write the fitted head into `folder`, without pickle."""

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`; no code that the files may hold is run."""


def new_head(name: str, task: str = "classes") -> Head:
    """A head with its default parameters, not fitted yet.

    Parameters
    ----------
    name : str
        One of `HEADS`, for numbers one of `REGRESSORS`, or for anomalies one of `DETECTORS`; a classifier or regressor
        of scikit-learn by its import path, as ``sklearn.svm:SVC``; or a function of the user's own code that returns an
        estimator, as ``FILE.py:make_head``. That file is run.
    task : str
        One of `TASKS`. For ``multilabel``, the head is copied for each label (see `heads.wrappers.multilabel`).

    Raises
    ------
    InvalidChoice
        When there is no such head, or no such task.
    """
    if task not in TASKS:
        raise unknown("there is no task", task, TASKS)
    if task == "multilabel":
        from heads.wrappers.multilabel import MultiLabelHead  # loads scikit-learn

        return MultiLabelHead(new_head(name))
    if task == "anomalies" and name not in DETECTORS:
        raise unknown("there is no head for anomalies", name, DETECTORS)
    if ":" in name or name.endswith(".py"):
        from heads.wrappers import classifiers  # loads scikit-learn

        wrapped: Any = (classifiers.of_user if user_code.is_file(name) else classifiers.by_path)(name, task)
        return wrapped
    module, attribute = _import_path(name, task).split(":")
    head: Head = getattr(importlib.import_module(module), attribute)()
    return head


def _import_path(name: str, task: str) -> str:
    """The module and the class, or function, that makes the head called `name`, as ``module:attribute``."""
    if task == "anomalies":
        return DETECTORS[name]
    if name in DETECTORS:
        raise InvalidChoice(
            f"the head {name!r} learns one class and finds anomalies; train-head alone takes it, for classes."
        )
    if task == "classes":
        if name not in HEADS:
            raise unknown("there is no head", name, HEADS, "Others are named as sklearn.svm:SVC or FILE.py:make_head.")
        return HEADS[name]
    if name in REGRESSORS:
        return REGRESSORS[name]
    others = "Others are named as sklearn.svm:SVR or FILE.py:make_head."
    if name in HEADS:
        raise InvalidChoice(
            f"the head {name!r} is for classes; for numbers there are {', '.join(REGRESSORS)}. {others}"
        )
    raise unknown("there is no head for numbers", name, REGRESSORS, others)


def make_head(name: str, params: dict[str, Any] | None = None, task: str = "classes") -> Head:
    """A new head with these parameters, not fitted yet.

    Parameters
    ----------
    name, task : str
        See `new_head`.
    params : dict, optional
        Arguments of the head's constructor, or of the classifier or regressor that it wraps. Strings are read as JSON
        where that is possible, so ``"0.1"`` is a number.

    Raises
    ------
    InvalidChoice
        When there is no such head or parameter, or a value has the wrong type.

    Examples
    --------
    >>> make_head("knn", {"n_neighbors": 3}).estimator.n_neighbors
    3
    """
    from heads.parameters import set_parameters  # loads scikit-learn

    head = new_head(name, task)
    set_parameters(head, name, params or {})
    return head


def seeded(name: str, params: dict[str, Any], seed: int, task: str = "classes") -> dict[str, Any]:
    """`params`, with `seed` for every random parameter of the head that they do not set.

    A random state that the user's own code sets is kept.

    Examples
    --------
    >>> seeded("random-forest", {}, 7)
    {'random_state': 7}
    """
    from heads.parameters import parameters  # loads scikit-learn

    known = parameters(make_head(name, params, task))
    random = [key for key in known if key in ("seed", "random_state") or key.endswith("__random_state")]
    return {**{key: seed for key in random if known[key] is None or not user_code.is_file(name)}, **params}


def record(name: str, head: Head) -> dict[str, Any]:
    """What the config.json of a run says about the head called `name`: its parameters, and the digest of its code."""
    from heads.parameters import plain_parameters  # loads scikit-learn

    config = {"name": name, "params": plain_parameters(head)}
    return {**config, "code": user_code.digest(name)} if user_code.is_file(name) else config
