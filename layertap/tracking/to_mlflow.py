"""Runs in MLflow: in the place that it is set to, by ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from typing import Any

from feature_cache.errors import InvalidChoice, Unreachable
from feature_cache.files.urls import shown
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
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # where commands print JSON
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
            server = f"{shown(mlflow.get_tracking_uri())} ($MLFLOW_TRACKING_URI)"
            raise Unreachable(f"no MLflow server answers at {server}; `tracking` needs one.") from None
        raise
    return mlflow


def log(record: Record) -> str:
    """Log a run, and say where."""
    mlflow = load()
    from mlflow.entities import Metric  # an optional package

    client, within = mlflow.MlflowClient(), mlflow.active_run() is not None
    with mlflow.start_run(run_name=record.name, nested=within) as started:
        number = started.info.run_id
        try:
            mlflow.log_params(record.parameters)
            mlflow.log_metrics(record.scores)
            now = int(time.time() * 1000)
            series = [Metric(name, value, now, step) for name, step, value in record.epochs]
            for first in range(0, len(series), 1000):  # what a server takes at a time
                client.log_batch(number, series[first : first + 1000])
            for file in (*record.pictures, *record.files):
                mlflow.log_artifact(str(file))
        except BaseException:
            with contextlib.suppress(Exception):  # a half of a run beside the one that is logged later
                client.delete_run(number)
            raise
    return f"run {number} in {shown(mlflow.get_tracking_uri())}"
