"""Targets and protocols by the arguments of commands, and the notes about them, which are printed here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from heads.registry import TASKS
from layertap.commands.terminal.output import Progress, print_notes

if TYPE_CHECKING:
    import numpy as np

    from heads.evaluation.protocol import Protocol
    from heads.splitting.splits import Split
    from layertap.workflows.protocol import ProtocolOptions
    from transfer.data.datasets import Dataset
    from transfer.extraction.feature_set import FeatureSet
    from transfer.nets.catalogue import Net

CLASSES, REGRESSION, MULTILABEL = TASKS


def options(args: argparse.Namespace) -> ProtocolOptions:
    """The options of a protocol among the arguments of a command."""
    from layertap.workflows.protocol import ProtocolOptions

    chosen = {field.name: getattr(args, field.name) for field in fields(ProtocolOptions) if hasattr(args, field.name)}
    return ProtocolOptions(**chosen)


def protocol(args: argparse.Namespace, dataset: Dataset) -> Protocol:
    return options(args).protocol(dataset)


def groups(args: argparse.Namespace, dataset: Dataset, images: np.ndarray) -> np.ndarray:
    return options(args).split_groups(dataset, images)


def as_dict(args: argparse.Namespace, judged_by: Protocol) -> dict[str, Any]:
    return options(args).to_json(judged_by)


def copies(args: argparse.Namespace, cached: FeatureSet, labels: np.ndarray | None = None) -> np.ndarray:
    from layertap.workflows.protocol import find_copies

    found = find_copies(cached, args.together, labels, partial(Progress, quiet=args.quiet))
    print_notes(found.notes)
    return found.groups


def warn_of_parted(judged_by: Protocol, together: np.ndarray) -> None:
    from layertap.workflows.protocol import parted_notes

    print_notes(parted_notes(judged_by, together))


def identities(args: argparse.Namespace, cached: FeatureSet) -> np.ndarray:
    from layertap.workflows.protocol import identify

    return identify(cached, partial(Progress, quiet=args.quiet))


def seen_by(nets: Iterable[Net]) -> frozenset[bytes]:
    from layertap.runs import seen_by

    return seen_by(nets)


def warn_of_seen(seen: frozenset[bytes], images: np.ndarray, splits: list[Split], aside: np.ndarray) -> None:
    from layertap.workflows.protocol import seen_warnings

    for warning in seen_warnings(seen, images, splits, aside):
        print(f"warning: {warning}", file=sys.stderr)
