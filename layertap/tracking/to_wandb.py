"""Runs in Weights & Biases: in the project that ``WANDB_PROJECT`` names, and else in ``layertap``."""

from __future__ import annotations

import os
from typing import Any

from feature_cache.errors import InvalidChoice
from layertap.tracking.record import Record


def load() -> Any:
    """The package.

    Raises
    ------
    InvalidChoice
        When nobody is logged in, and it is not set to work without a network: it would ask after the training.
    """
    import wandb  # an optional package

    if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
        raise InvalidChoice("`tracking` by wandb needs an account: run wandb login, or set WANDB_MODE=offline.")
    return wandb


def log(record: Record) -> str:
    """Log a run, and say where."""
    wandb = load()
    project = os.environ.get("WANDB_PROJECT", "layertap")
    settings = wandb.Settings(silent=True, console="off")
    with wandb.init(project=project, name=record.name, config=record.parameters, settings=settings) as run:
        for name, step, value in record.epochs:
            run.log({name: value, "epoch": step})
        run.log({f"pictures/{file.stem}": wandb.Image(str(file)) for file in record.pictures})
        run.summary.update(record.scores)
        files = wandb.Artifact(f"run-{run.id}", type="run")
        for file in record.files:
            files.add_file(str(file))
        run.log_artifact(files)
        return str(run.dir if run.offline else run.url)
