"""`layertap evaluate` and `predict`: what is done with a run."""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import arguments
from commands.output import Progress, output, print_json, print_skipped, print_table
from feature_cache.errors import DamagedFile, InvalidChoice

if TYPE_CHECKING:
    import numpy as np

    from heads.runs import Run
    from transfer.datasets import DataSet
    from transfer.lookup import Cached


def evaluate(args: argparse.Namespace) -> None:
    from heads.metrics import score
    from transfer.datasets import require_labels

    dataset = arguments.dataset(args)
    require_labels(dataset, least=1)
    run, cached, probabilities, seconds = _apply(args, dataset)
    labels, classes = require_labels(cached.dataset, least=1), run.head.classes_
    result = {
        **score(classes, labels, probabilities),
        "fit_seconds": run.config["head"].get("fit_seconds"),
        "predict_seconds": seconds,
    }
    if args.json:
        print_json({"run": args.run, "data": args.data, "test": result})
        return
    print_skipped(cached.skipped, None)
    strange = sorted(set(labels.tolist()) - set(classes.tolist()))
    if strange:
        names = ", ".join(strange[:5])
        print(f"{len(strange)} classes are unknown to the head and count as mistakes: {names}", file=sys.stderr)
    print_scores([("test", result)])


def predict(args: argparse.Namespace) -> None:
    run, cached, probabilities, _ = _apply(args, _images(args))
    classes = run.head.classes_.tolist()
    predicted = [classes[column] for column in probabilities.argmax(1)]
    ids = cached.dataset.ids
    if args.json:
        rows = [
            {"id": name, "class": label, "probabilities": dict(zip(classes, row, strict=True))}
            for name, label, row in zip(ids, predicted, probabilities.tolist(), strict=True)
        ]
        with output(args.out) as stream:
            print_json({"predictions": rows, "skipped": [asdict(problem) for problem in cached.skipped]}, stream)
        return
    print_skipped(cached.skipped, None)
    with output(args.out) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "class", *classes])
        for name, label, row in zip(ids, predicted, probabilities.tolist(), strict=True):
            writer.writerow([name, label, *(f"{value:.6g}" for value in row)])


def _images(args: argparse.Namespace) -> DataSet:
    from transfer import datasets

    paths = [Path(name) for name in args.image]
    if len(paths) == 1 and (paths[0].is_dir() or args.image[0] in datasets.BUILT_IN or _is_table(paths[0])):
        args.data = args.image[0]
        return arguments.dataset(args)
    for path in paths:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InvalidChoice(f"the image {str(path)!r} {what}; give image files, or one folder or CSV file.")
    return datasets.from_files(paths)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def _apply(args: argparse.Namespace, dataset: DataSet) -> tuple[Run, Cached, np.ndarray, float]:
    """Predict `dataset` with a run, once what the cache lacks is extracted by the spec that the run carries."""
    from feature_cache.joined import Joined
    from heads import runs
    from transfer.extract import extract
    from transfer.lookup import cached_features
    from transfer.nets import net_from_config
    from transfer.request import request_for

    run, cache = runs.read(Path(args.run), args.head_code), arguments.cache(args)
    views = run.views
    count = views.count if views.average else 1
    found: list[Cached] = []
    for spec, net in run.parts:
        request = request_for(spec, net_from_config(net), count)
        with Progress("images", args.quiet) as progress:
            extract(dataset, request, cache, on_error=args.on_error, progress=progress)
        found.append(cached_features(dataset, request, cache, on_error=args.on_error))
    cached = found[0]
    if not len(cached.dataset):
        raise InvalidChoice(f"none of the {len(dataset)} images can be read.")
    parts = [one.features[spec.layer] for one, (spec, _) in zip(found, run.parts, strict=True)]
    features = parts[0][:] if len(parts) == 1 else Joined(parts)[:]
    width = features[0].size
    if getattr(run.head, "n_features_in_", width) != width:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder}; train it again.")
    start = time.perf_counter()
    probabilities = run.head.predict_proba(features)
    if views.average:
        probabilities = views.mean(probabilities)
    return run, cached, probabilities, time.perf_counter() - start


def print_scores(parts: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a table of scores, a row for each part."""

    def cell(value: Any, digits: int) -> str:
        if isinstance(value, dict) and value["mean"] is None:
            return "-"
        if isinstance(value, dict):
            spread = f" ± {value['std']:.{digits}f}" if value["std"] else ""
            return f"{value['mean']:.{digits}f}{spread}"
        return "-" if value is None else f"{value:.{digits}f}"

    columns = {
        "accuracy": ("accuracy", 4),
        "balanced accuracy": ("balanced_accuracy", 4),
        "log-loss": ("nll", 4),
        "calibration error": ("ece", 4),
        "images": ("n", 0),
        "fit (s)": ("fit_seconds", 2),
        "predict (s)": ("predict_seconds", 3),
    }
    rows = [(name, *(cell(scores.get(key), digits) for key, digits in columns.values())) for name, scores in parts]
    print_table(("", *columns), rows)
