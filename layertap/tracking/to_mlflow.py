"""Runs in MLflow: in the place that it is set to, by ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

from feature_cache.errors import InvalidChoice, Unreachable
from layertap.tracking.record import Record


def load() -> Any:
    """The package, once it has answered; its reports of usage stay off unless the user has turned them on.

    Raises
    ------
    InvalidChoice
        When runs are to be in a database, and only ``mlflow-skinny`` is installed, which has none.
    Unreachable
        When the server does not answer.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # of seven, which take minutes
    import mlflow  # an optional package

    if "sql" in mlflow.get_tracking_uri().partition(":")[0] and not importlib.util.find_spec("sqlalchemy"):
        raise InvalidChoice(
            "`tracking` by mlflow: set MLFLOW_TRACKING_URI to the address of a server, or keep runs in a file here: "
            "pip install mlflow"
        )
    try:
        mlflow.MlflowClient().search_experiments(max_results=1)
    except mlflow.exceptions.MlflowException as error:
        if "Failed to establish a new connection" in str(error) or "Max retries" in str(error):
            raise Unreachable(
                f"no MLflow server answers at {mlflow.get_tracking_uri()} ($MLFLOW_TRACKING_URI); `tracking` needs one."
            ) from None
        raise
    return mlflow


def log(record: Record) -> str:
    """Log a run, and say where."""
    mlflow = load()
    from mlflow.entities import Metric  # an optional package

    with mlflow.start_run(run_name=record.name) as started:
        mlflow.log_params(record.parameters)
        mlflow.log_metrics(record.scores)
        now = int(time.time() * 1000)
        series = [Metric(name, value, now, step) for name, step, value in record.epochs]
        for first in range(0, len(series), 1000):  # what a server takes at a time
            mlflow.MlflowClient().log_batch(started.info.run_id, series[first : first + 1000])
        for file in (*record.pictures, *record.files):
            mlflow.log_artifact(str(file))
    return f"run {started.info.run_id} in {mlflow.get_tracking_uri()}"
