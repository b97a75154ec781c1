"""`layertap evaluate` and `predict`: what is done with a run."""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, one_line
from layertap.commands import problem
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import output, print_json, print_skipped
from layertap.commands.terminal.scores import print_scores

if TYPE_CHECKING:
    import numpy as np

    from layertap.runs import Run
    from transfer.data.datasets import Dataset
    from transfer.extraction.lookup import FeatureSet


def evaluate(args: argparse.Namespace) -> None:
    from heads.evaluation.tasks import task_of
    from layertap import runs

    run, dataset = runs.read(Path(args.run), args.head_code), shared.dataset(args)
    _truth(dataset, run)
    cached, said, seconds = _apply(args, run, dataset)
    truth, strange = _truth(cached.dataset, run)
    seen = runs.read_images(run.folder / runs.HEAD_IMAGES)
    known = problem.known_images(seen, problem.identities(args, cached)) if seen else 0
    if known:
        print(
            f"warning: {args.run} was trained on {known} of these {len(truth)} images: their scores say little.",
            file=sys.stderr,
        )
    task = task_of(truth)
    result = {
        **task.score(task.classes_of(run.head), truth, said),
        "fit_seconds": run.config["head"].get("fit_seconds"),
        "predict_seconds": seconds,
    }
    if args.json:
        print_json({"run": args.run, "data": args.data, "test": result, "skipped": _skipped(cached)})
        return
    print_skipped(cached.skipped, None)
    if strange:
        what = "classes" if run.task.name == problem.CLASSES else "labels"
        then = "count as mistakes" if run.task.name == problem.CLASSES else "are left out"
        print(f"{what} unknown to the head ({len(strange)}) {then}: {', '.join(strange[:5])}", file=sys.stderr)
    print_scores([("test", result)])


def _truth(dataset: Dataset, run: Run) -> tuple[np.ndarray, list[str]]:
    """The targets of `dataset` as the run has them, and the names of classes or labels that it does not know."""
    import numpy as np

    from transfer.data.datasets import require_labels

    if run.task.name == problem.CLASSES:
        labels = require_labels(dataset, least=1)
        return labels, sorted(set(labels.tolist()) - set(run.head.classes_.tolist()))
    found, names = problem.targets(dataset, run.task.name, list(run.task.columns), least=1)
    if run.task.name == problem.REGRESSION:
        return found, []
    columns = dict(zip(names, found.T, strict=True))
    none = np.zeros(len(dataset), bool)
    member = np.stack([columns.get(label, none) for label in run.task.labels], axis=1)
    return member, sorted(set(names) - set(run.task.labels))


def predict(args: argparse.Namespace) -> None:
    from layertap import runs

    run = runs.read(Path(args.run), args.head_code)
    cached, said, _ = _apply(args, run, _images(args))
    ids, (names, chosen) = cached.dataset.ids, _named(run, said)
    numbers = said.reshape(len(ids), -1)
    what, values = {
        problem.CLASSES: ("class", "probabilities"),
        problem.MULTILABEL: ("labels", "probabilities"),
        problem.REGRESSION: ("", "numbers"),
    }[run.task.name]
    if args.json:
        rows = [
            {"id": name, **({what: one} if what else {}), values: dict(zip(names, row.tolist(), strict=True))}
            for name, one, row in zip(ids, chosen, numbers, strict=True)
        ]
        with output(args.out) as stream:
            print_json(
                {
                    "predictions": rows,
                    "skipped": _skipped(cached),
                },
                stream,
            )
        return
    print_skipped(cached.skipped, None)
    with output(args.out) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *([what] if what else []), *names])
        for name, one, row in zip(ids, chosen, numbers, strict=True):
            told = ";".join(one) if isinstance(one, list) else one
            # The fewest digits that give the same number again: scores of the file are those of the predictions.
            writer.writerow([name, *([told] if what else []), *map(str, row)])


def _skipped(cached: FeatureSet) -> list[dict[str, str]]:
    return [{"id": image.id, "reason": image.reason} for image in cached.skipped]


def _named(run: Run, said: np.ndarray) -> tuple[list[str], list[Any]]:
    """The names of the columns of what was said, and for each image its class, its labels or nothing."""
    if run.task.name == problem.REGRESSION:
        return list(run.task.columns), [None] * len(said)
    if run.task.name == problem.MULTILABEL:
        names = list(run.task.labels)
        return names, [[names[column] for column in member.nonzero()[0]] for member in said > 0.5]
    names = run.head.classes_.tolist()
    return names, [names[column] for column in said.argmax(1)]


def _images(args: argparse.Namespace) -> Dataset:
    from transfer.data import datasets

    paths = [Path(name) for name in args.image]
    if len(paths) == 1 and (paths[0].is_dir() or args.image[0] in datasets.BUILT_IN or datasets.is_dataset(paths[0])):
        args.data = args.image[0]
        return shared.dataset(args)
    if args.split is not None or args.range is not None:
        raise InvalidChoice("--split and --range go with a data set, not with image files; leave them out.")
    for path in paths:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InvalidChoice(f"the image {str(path)!r} {what}; give image files, or one data set.")
    return shared.read_as(args, datasets.from_files(paths))


def _apply(args: argparse.Namespace, run: Run, dataset: Dataset) -> tuple[FeatureSet, np.ndarray, float]:
    """What a run says of `dataset`, once what the cache lacks is extracted by the spec that the run carries.

    Returns
    -------
    cached : FeatureSet
    said : ndarray
        See `heads.evaluation.views.Views.outputs`.
    seconds : float
        That the head took.
    """
    from feature_cache.joined import Joined
    from heads.evaluation.tasks import outputs
    from heads.validation import finite
    from transfer.extraction.request import request_for
    from transfer.nets.catalogue import net_from_config

    cache, views = shared.cache(args), run.views
    count = views.count if views.average else 1
    found: list[FeatureSet] = []
    for spec, net in run.parts:
        request = request_for(spec, net_from_config(net, run.folder), count)
        found.append(shared.extracted(args, dataset, request, cache))
    cached = found[0]
    if not len(cached.dataset):
        raise InvalidChoice(f"none of the {len(dataset)} images can be read.")
    parts = [one.features[spec.layer] for one, (spec, _) in zip(found, run.parts, strict=True)]
    rows = parts[0] if len(parts) == 1 else Joined(parts)
    width = math.prod(rows.shape[1:])
    if getattr(run.head, "n_features_in_", width) != width:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder}; train it again.")
    features = rows[:]
    start = time.perf_counter()
    try:
        with finite(rows):
            said = outputs(run.head, features)
    except (LayertapError, MemoryError):
        raise
    except Exception as error:  # the head comes from a file, and may hold anything
        reason = one_line(error, with_type=True)
        raise DamagedFile(f"the head of {run.folder} cannot be applied ({reason}); train it again.") from error
    if run.task.name == problem.REGRESSION and said.reshape(len(features), -1).shape[1] != len(run.task.columns):
        raise DamagedFile(f"the head of {run.folder} is of other columns than its config.json names; train it again.")
    if views.average:
        said = views.mean(said)
    return cached, said, time.perf_counter() - start
