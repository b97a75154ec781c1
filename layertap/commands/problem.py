"""What heads are to learn, and how they are judged, by the arguments of the commands that train them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadData, InvalidChoice
from layertap.commands.terminal.output import Progress

if TYPE_CHECKING:
    import numpy as np

    from heads.evaluation.protocol import Protocol
    from heads.splitting.splits import Split
    from transfer.data.datasets import Dataset
    from transfer.extraction.lookup import FeatureSet
    from transfer.nets.catalogue import Net

CLASSES, REGRESSION, MULTILABEL = "classes", "regression", "multilabel"
EXACT, NEAR, COPIES = "exact", "near", "copies"  # what --together keeps together


def task(args: argparse.Namespace) -> str:
    """Which task the arguments name (see `heads.evaluation.tasks`).

    Raises
    ------
    InvalidChoice
        When other arguments are about classes, and these are not.
    """
    name = REGRESSION if args.regression else MULTILABEL if args.multilabel else CLASSES
    if name != CLASSES:
        for option in ("per_class", "curve", "calibrate"):
            if getattr(args, option):
                raise InvalidChoice(f"--{option.replace('_', '-')} is about classes; leave it out with --{name}.")
    return name


def targets(dataset: Dataset, name: str, columns: list[str], *, least: int = 2) -> tuple[np.ndarray, tuple[str, ...]]:
    """What is to be predicted of `dataset`, and the names of the classes, numbers or labels.

    Parameters
    ----------
    least : int
        Different values that there have to be: 2 where something is to be learned.

    Raises
    ------
    BadData, InvalidChoice
        When it has no such targets, or none that can be learned.
    """
    import numpy as np

    from transfer.data.columns import decimal_commas, label_sets, numbers
    from transfer.data.datasets import require_labels

    if name == REGRESSION:
        values = numbers(dataset, columns)
        for column in decimal_commas(dataset, columns):
            print(f"note: the commas in the column {column!r} of {dataset.name} are read as points.", file=sys.stderr)
        _require_change(dataset, values, tuple(columns), least)
        return values, tuple(columns)
    if name == MULTILABEL:
        member, names = label_sets(dataset, columns)
        _require_change(dataset, member, names, least)
        return member, names
    labels = require_labels(dataset, least)
    return labels, tuple(np.unique(labels).tolist())


def _require_change(dataset: Dataset, values: np.ndarray, names: tuple[str, ...], least: int) -> None:
    """Raise BadData where a number, or all labels, are the same for all images."""
    import numpy as np

    columns = zip(names, values.reshape(len(values), -1).T, strict=True)
    same = [name for name, column in columns if len(np.unique(column)) < least]
    if same and (values.dtype.kind == "f" or len(same) == len(names)):
        raise BadData(f"{dataset.name}: {', '.join(same[:3])} is the same for all images; there is nothing to learn.")


def described(name: str, columns: list[str], names: tuple[str, ...]) -> dict[str, Any]:
    """The task as a run keeps it."""
    if name == CLASSES:
        return {"name": name}
    return {"name": name, "columns": columns, **({"labels": list(names)} if name == MULTILABEL else {})}


def protocol(args: argparse.Namespace, dataset: Dataset) -> Protocol:
    """How heads are judged on `dataset`.

    Raises
    ------
    InvalidChoice, BadData
        When the arguments do not go together, or not with the data.
    """
    from heads.evaluation.protocol import Protocol
    from heads.splitting.predefined import predefined_split
    from transfer.data.columns import texts

    if args.repeats > 1 and args.cv is None:
        raise InvalidChoice("--repeats makes the folds of --cv several times; add --cv K.")
    if args.groups and (args.per_class or getattr(args, "curve", None)):
        raise InvalidChoice("--groups keeps images together, of which --per-class and --curve draw single ones.")
    test = getattr(args, "test", None)
    found = None
    if args.splits:
        found = predefined_split(args.splits, texts(dataset, args.splits))
        if test is not None:
            raise InvalidChoice("--splits names the test images itself; leave out --test.")
        chosen = [option for option in ("cv", "valid", "per_class") if getattr(args, option) is not None]
        if found.names and chosen:
            option = chosen[0].replace("_", "-")
            raise InvalidChoice(f"--splits names what is held out itself; leave out --{option}.")
    return Protocol(args.cv, args.valid, args.per_class, args.draws, args.seed, test, args.repeats, found)


def copies(args: argparse.Namespace, cached: FeatureSet, labels: np.ndarray | None = None) -> np.ndarray:
    """Numbers of shape (n,) that are equal for copies of an image and, by --together near, for its near-duplicates.

    Parameters
    ----------
    labels : ndarray of shape (n,), str, optional
        Classes: how many copies differ in them is said on stderr.
    """
    from transfer.data.groups import copy_groups, count_label_conflicts, near_groups

    with Progress("images decoded", args.quiet) as progress:
        exact = copy_groups(cached.dataset, cached.digests, cached.specs, cached.memo, progress)
    if labels is not None and (mixed := count_label_conflicts(exact, labels)):
        print(
            f"note: {mixed} images have an exact copy of another class; one of the labels is likely wrong "
            "(layertap explore shows them).",
            file=sys.stderr,
        )
    if args.together != NEAR:
        return exact
    with Progress("images compared", args.quiet) as progress:
        near = near_groups(cached.dataset, exact, cached.specs[0], progress)
    print(
        f"note: {near.pairs} pairs of near-duplicates stay together: {near.images} images in {near.count} groups, the "
        f"largest of {near.largest}.",
        file=sys.stderr,
    )
    return near.groups


def groups(args: argparse.Namespace, dataset: Dataset, images: np.ndarray) -> np.ndarray:
    """Numbers of shape (n,), equal for images that stay together in splits.

    These are copies, the pages of a file unless --together says otherwise and, by --groups, the images of a group.

    Parameters
    ----------
    images : ndarray of shape (n,)
        Equal for copies of an image.
    """
    import numpy as np

    from heads.splitting.splits import united
    from transfer.data.columns import texts
    from transfer.data.groups import page_groups

    if args.together != COPIES and len(np.unique(files := page_groups(dataset))) < len(dataset):
        if args.per_class or getattr(args, "curve", None):
            raise InvalidChoice(
                "pages of one file stay together, of which --per-class and --curve draw single ones; add --together "
                "copies to have them apart."
            )
        if len(np.unique(files)) < 2:
            raise BadData(
                f"all images of {dataset.name} are pages of one file, which stay together; add --together copies to "
                "have them on both sides of a split."
            )
        images = united(images, files)
    return united(images, texts(dataset, args.groups)) if args.groups else images


def as_dict(args: argparse.Namespace, judged_by: Protocol) -> dict[str, Any]:
    """The protocol as a run keeps it."""
    together = {"together": args.together} if args.together != EXACT else {}
    return {**judged_by.as_dict(), **({"groups": args.groups} if args.groups else {}), **together}


def warn_of_parted(judged_by: Protocol, together: np.ndarray) -> None:
    """Say how many images the given splits have in two parts."""
    parted = judged_by.predefined.count_divided(together) if judged_by.predefined else 0
    if parted:
        print(
            f"{parted} images have equals, or others of their group, in another part of the given splits.",
            file=sys.stderr,
        )


def identities(args: argparse.Namespace, cached: FeatureSet) -> np.ndarray:
    """What images are known again by, of shape (n, k, 16), uint8 (see `transfer.data.groups.identity_digests`)."""
    from transfer.data.groups import identity_digests

    with Progress("images decoded", args.quiet) as progress:
        return identity_digests(cached.dataset, cached.digests, cached.specs, cached.memo, progress)


def known_images(seen: Set[bytes], images: np.ndarray) -> int:
    """How many images a net or a head has seen.

    Parameters
    ----------
    seen : set of bytes
        What those that it was trained on are known by.
    images : ndarray of shape (n, k, 16), uint8
        See `identities`.
    """
    from layertap.runs import image_keys

    return sum(not seen.isdisjoint(image_keys(image)) for image in images)


def seen_by(nets: Iterable[Net]) -> frozenset[bytes]:
    """What the images that nets were trained on are known by, as far as `fine-tune` has noted them."""
    from layertap.runs import NET_IMAGES, read_images

    files = {net.weights_file for net in nets}
    return frozenset().union(*(read_images(file.with_name(NET_IMAGES)) for file in files if file))


def warn_of_seen(seen: frozenset[bytes], images: np.ndarray, splits: list[Split], aside: np.ndarray) -> None:
    """Say how many of the images held out or set `aside` a net was trained on.

    Parameters
    ----------
    images : ndarray of shape (n, k, 16), uint8
        See `identities`.
    """
    import numpy as np

    judged = np.unique(np.concatenate([aside, *(held_out for _, held_out in splits)]))
    known = known_images(seen, images[judged]) if seen else 0
    if known:
        print(
            f"warning: the net was trained on {known} of the {len(judged)} images held out: their scores say little.",
            file=sys.stderr,
        )
