"""Models of trained submissions, saved without pickling."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def save_model(trained: Any, folder: Path) -> None:
    """Save the parts of a trained submission.

    A classifier with a method ``save(folder)`` saves itself. Of others each attribute is saved: nets as ``.keras``,
    what has a method ``save(folder)``, such as Layertap's own heads, in a folder of its name, and estimators of
    scikit-learn by skops.

    Parameters
    ----------
    trained
        The value that a workflow's `train_submission` returned.
    folder : Path
        The folder is created if there is anything to save.
    """
    parts = trained if isinstance(trained, (tuple, list)) else (trained,)
    for part in parts:
        if _saves_itself(part):
            folder.mkdir()
            part.save(folder)
            return
    named = {name: value for part in parts for name, value in [("model", part), *getattr(part, "__dict__", {}).items()]}
    for name, value in named.items():
        if _is_net(value):
            folder.mkdir(exist_ok=True)
            value.save(folder / f"{name}.keras")
        elif _saves_itself(value):
            (folder / name).mkdir(parents=True)
            value.save(folder / name)
        elif _is_estimator(value):
            from skops import io  # slow to load

            folder.mkdir(exist_ok=True)
            io.dump(value, folder / f"{name}.skops")


def _saves_itself(value: Any) -> bool:
    return callable(getattr(value, "save", None)) and not _is_net(value) and not isinstance(value, type)


def _is_net(value: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(value, keras.Model)


def _is_estimator(value: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(value, base.BaseEstimator) and not isinstance(value, type)
