"""Tracking a run: its configuration, scores and pictures go to a tool that compares experiments."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice, LayertapError, MissingDependency, StorageFailure, one_line, unknown
from feature_cache.files.urls import redacted
from layertap.runs import Run, load_run
from layertap.tracking import TOOLS, Tool
from layertap.tracking.record import record_of


def track(run: Run | str | os.PathLike[str], tool: Tool) -> str:
    """Log the configuration, the scores, the pictures and the report of a run with a tool for tracking experiments.

    Parameters
    ----------
    run : Run or path
        A run that was written. One that needs code of the user's is given as `layertap.load_run` returns it.
    tool : {'mlflow', 'tensorboard', 'wandb'}
        MLflow and Weights & Biases log where their own settings say (``MLFLOW_TRACKING_URI``, ``WANDB_PROJECT`` and
        others), each time as a new run; TensorBoard's logs are in the folder ``tensorboard`` of the run, and replaced.

    Returns
    -------
    str
        Where it is.

    Raises
    ------
    MissingDependency
        When the package of the tool is not installed.
    InvalidChoice
        When there is no such tool, the run was not written, or nobody is logged in.
    StorageFailure
        When the tool does not take it. The run itself stays as it is.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head("digits", features, "ridge", cv=3, out="run", progress=False)
    >>> lt.track(run, "tensorboard")
    'run/tensorboard (tensorboard --logdir run)'
    """
    run = run if isinstance(run, Run) else load_run(Path(run))
    if run.folder is None:
        raise InvalidChoice("a run is tracked once it is written; train it with `out`.")
    module = require_tool(tool)
    record = record_of(run, Path(run.folder))
    try:
        return str(module.log(record))
    except LayertapError:
        raise
    except Exception as error:  # of servers, networks and settings that are not ours
        raise StorageFailure(
            f"{run.folder} is written, but {tool} did not take it ({redacted(one_line(error))}); later, layertap.track("
            f"layertap.load_run({str(run.folder)!r}), {tool!r}) in Python logs it."
        ) from error


def require_tool(tool: str) -> Any:
    """The module of `layertap.tracking` that logs with a tool, whose package is there; for errors see `track`."""
    if tool not in TOOLS:
        raise unknown("there is no tool for tracking", tool, TOOLS)
    module = importlib.import_module(f"layertap.tracking.to_{tool}")
    try:
        module.load()
    except ImportError as error:
        raise MissingDependency(f"`tracking` by {tool} needs its package: pip install 'layertap[{tool}]'") from error
    except LayertapError:
        raise
    except Exception as error:
        raise StorageFailure(f"`tracking` by {tool} does not work here: {redacted(one_line(error))}") from error
    return module
