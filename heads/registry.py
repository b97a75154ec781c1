"""The heads by name, what a head is, and how one is made."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from feature_cache.errors import InvalidChoice, unknown

HEADS = {  # classes, or functions that make a head
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
REGRESSORS = {  # the same for targets that are numbers
    "ridge": "heads.ridge.regressor:RidgeRegressor",
    "linear-svm": "heads.wrappers.regressors:LinearSVMRegressor",
    "svm-rbf": "heads.wrappers.regressors:svm_rbf",
    "knn": "heads.wrappers.regressors:knn",
    "random-forest": "heads.wrappers.regressors:random_forest",
    "hist-gradient-boosting": "heads.wrappers.regressors:hist_gradient_boosting",
}
TASKS = ("classes", "regression", "multilabel")  # what a head predicts (see `heads.evaluation.tasks`)


class Head(Protocol):
    """A classifier of features, by scikit-learn's rules for estimators.

    Heads for numbers have neither `classes_` nor `predict_proba`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted; the order of the columns of `predict_proba`.
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
        """The head that `save` wrote; no code that the files may hold is run."""


def new_head(name: str, task: str = "classes") -> Head:
    """A head with its defaults, not yet fitted.

    Parameters
    ----------
    name : str
        One of `HEADS`, or for numbers of `REGRESSORS`; a classifier of scikit-learn as ``sklearn.svm:SVC``, or a
        regressor; or ``FILE.py:make_head``, a function of the user's that returns an estimator. That file is run.
    task : str
        One of `TASKS`. For several labels, the head is copied for each (see `heads.wrappers.multilabel`).

    Raises
    ------
    InvalidChoice
        When there is no such head, or no such task.
    """
    if task not in TASKS:
        raise unknown("there is no task", task, TASKS)
    if task == "multilabel":
        from heads.wrappers.multilabel import MultiLabelHead

        return MultiLabelHead(new_head(name))
    if ":" in name or name.endswith(".py"):
        from heads import user_code
        from heads.wrappers import classifiers

        found: Any = (classifiers.of_user if user_code.is_file(name) else classifiers.by_path)(name, task)
        return found
    module, attribute = _place(name, task).split(":")
    made: Head = getattr(importlib.import_module(module), attribute)()
    return made


def _place(name: str, task: str) -> str:
    """Where the head is made that is called `name`, as ``module:attribute``."""
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


def head_class(name: str) -> type[Head]:
    """The class of the head called `name`; see `new_head`."""
    return type(new_head(name))


def make_head(name: str, params: dict[str, Any] | None = None, task: str = "classes") -> Head:
    """A new head, not yet fitted.

    Parameters
    ----------
    name, task : str
        See `new_head`.
    params : dict, optional
        Arguments of its constructor, or of the classifier or regressor that it wraps; texts are read as JSON where that
        is possible (``"0.1"`` is a number).

    Raises
    ------
    InvalidChoice
        When there is no such head or parameter, or a value is not of the parameter's type.
    """
    from heads.parameters import set_parameters

    head = new_head(name, task)
    set_parameters(head, name, params or {})
    return head


def seeded(name: str, params: dict[str, Any], seed: int, task: str = "classes") -> dict[str, Any]:
    """`params`, and `seed` for what is random in the head and not among them.

    A random state that the user's own code sets stays as it is.
    """
    from heads import user_code
    from heads.parameters import parameters

    known = parameters(make_head(name, params, task))
    random = [key for key in known if key in ("seed", "random_state") or key.endswith("__random_state")]
    return {**{key: seed for key in random if known[key] is None or not user_code.is_file(name)}, **params}


def record(name: str, head: Head) -> dict[str, Any]:
    """What a run keeps of how `head` was made."""
    from heads import parameters, user_code

    kept = {"name": name, "params": parameters.plain_parameters(head)}
    return {**kept, "code": user_code.digest(name)} if user_code.is_file(name) else kept
