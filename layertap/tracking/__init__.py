"""Tracking: what is known of a run, for the tools that people compare their experiments in.

`record` gathers it, and each other module hands it to one tool, whose package is imported there alone.
"""

from __future__ import annotations

from typing import Literal, get_args

Tool = Literal["mlflow", "tensorboard", "wandb"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
