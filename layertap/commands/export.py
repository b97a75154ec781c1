"""`layertap export`: it writes a run as one model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json

if TYPE_CHECKING:
    from layertap.results import Exported


def export(args: argparse.Namespace) -> None:
    """Export the run that `args` name, and print where it is."""
    # Heavy: they import scikit-learn, which `layertap --help` does not need.
    from layertap import runs
    from layertap.workflows import export as workflow

    run = runs.load_run(args.run, **shared.code(args))
    exported = workflow.export(run, args.out, to=args.to, data=shared.optional_dataset(args), overwrite=args.overwrite)
    if args.json:
        print_json({"files": [str(file) for file in exported.files], **exported.description})
    else:
        _print(exported, args.run)


def _print(exported: Exported, run: str) -> None:
    height, width = exported.description["size"]
    classes, compared = len(exported.description["classes"]), exported.compared
    print(
        f"{exported.model}: images of {height} x {width} x 3 pixels to probabilities of {classes} classes.\n"
        f"On {compared.images} {compared.source} they differ by at most {compared.difference:.1g} from those of {run}. "
        f"{exported.files[-1]} names the classes."
    )
    if transform := exported.description.get("transform"):
        print(f"The model takes images as {transform} returns them: that code is not part of it.")
