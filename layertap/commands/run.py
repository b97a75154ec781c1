"""`layertap run`: it does the steps of a plan that are not done, each as its command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from layertap.commands.arguments.plan_steps import make_steps
from layertap.commands.terminal.colours import styled
from layertap.commands.terminal.output import print_json
from layertap.plans.reading import read_plan
from layertap.plans.steps import PlanState, Stage, Step


def run(args: argparse.Namespace) -> int:
    """Do the steps of the plan that `args` name; the exit status is that of the step which failed."""
    plan = read_plan(args.plan)
    steps = make_steps(plan, args.code)
    state = PlanState(plan.file, plan.folder)
    stages = state.stages(steps)
    reports: list[dict[str, Any]] = []
    if not args.json and plan.folder != Path.cwd():
        print(f"Paths start from {plan.folder}.")
    if args.dry_run:
        reports = [_report(step, stage) for step, stage in zip(steps, stages, strict=True)]
        for step, stage in zip(steps, stages, strict=True):
            _print(args, step, len(steps), stage.value)
    else:
        with contextlib.chdir(plan.folder):
            for step in steps:
                status = _do(args, step, len(steps), state, reports)
                if status:
                    return status
    if args.json:
        print_json({"plan": args.plan, "folder": str(plan.folder), "steps": reports})
    return 0


def _do(args: argparse.Namespace, step: Step, count: int, state: PlanState, reports: list[dict[str, Any]]) -> int:
    """Do one step, unless it is done; the exit status of its command."""
    stage = state.stage(step)  # again: steps before it may have changed what it reads
    if stage is Stage.DONE:
        state.finish(step)  # it may have been killed before it could say so
        _print(args, step, count, "done before")
        reports.append(_report(step, stage))
        return 0
    words = [*step.words]
    if stage is Stage.AGAIN and step.replaces and "--overwrite" not in words:
        words.append("--overwrite")
    _print(args, step, count)
    state.begin(step)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed) if args.json else contextlib.nullcontext():
        status: int = args.call([*words, "--json"] if args.json else words)
    if not status:
        state.finish(step)
        reports.append({**_report(step, stage), "result": _result(printed.getvalue())})
    return status


def _print(args: argparse.Namespace, step: Step, count: int, stage: str = "") -> None:
    if not args.json:
        line = f"step {step.number} of {count}{f', {stage}' if stage else ''}: {shlex.join(['layertap', *step.shown])}"
        print(styled(line, "heading", sys.stdout), flush=True)


def _report(step: Step, stage: Stage) -> dict[str, Any]:
    return {"command": ["layertap", *step.shown], "stage": stage.value}


def _result(text: str) -> Any:
    """What a command reported in JSON; None where it reported nothing."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return None
