"""`layertap train-head`, `evaluate` and `predict`."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import arguments
from commands.output import Progress, output, print_json, print_skipped, print_table, write_skipped
from feature_cache.errors import DamagedFile, InvalidChoice

if TYPE_CHECKING:
    import numpy as np

    from heads.runs import Run
    from transfer.datasets import DataSet
    from transfer.lookup import Cached


def train_head(args: argparse.Namespace) -> None:
    from feature_cache.lineage import cite, used
    from heads import make_head, plots, runs
    from heads.metrics import confusion
    from heads.training import Protocol, train
    from heads.views import Views
    from transfer.datasets import require_labels

    protocol = Protocol(args.cv, args.valid, args.per_class, args.draws, args.seed)
    params: dict[str, Any] = dict(args.param)
    if "seed" in make_head(args.head, params).get_params():  # a mistake in them shows before any work
        params.setdefault("seed", args.seed)
    out = Path(args.out)
    runs.check_free(out, overwrite=args.overwrite)
    dataset, request = arguments.dataset(args), arguments.request(args)
    require_labels(dataset)
    cache = arguments.cache(args)
    views = Views(request.views, args.average_views)
    cached = arguments.cached(args, dataset, request, cache)
    labels = require_labels(cached.dataset)

    with Progress("splits", args.quiet) as progress:
        trained = train(cached.features, labels, cached.contents, protocol, args.head, params, progress, views)
    spec = next(spec for spec in request.specs if spec.layer == trained.features)
    metrics = {"summary": trained.evaluation.summary(), "folds": trained.evaluation.folds}
    classes = trained.head.classes_
    used_rows = [used(features) for features in cached.features.values()]
    config = {
        "spec": json.loads(spec.to_json()),
        "net": request.net.as_config(),
        "head": {"name": args.head, "params": trained.head.get_params(), "fit_seconds": trained.fit_seconds},
        "protocol": protocol.as_dict(),
        "candidates": list(cached.features),
        "views": asdict(views),
        "features": [asdict(rows) for rows in used_rows],
        "data": {"name": args.data, "images": len(labels), "classes": classes.tolist()},
        "skipped": [problem.id for problem in cached.skipped],
    }
    with runs.new_run(out, overwrite=args.overwrite) as folder:
        runs.write(folder, trained.head, config, metrics)
        counts = confusion(classes, *trained.evaluation.held_out())
        plots.confusion(folder / "confusion.png", classes.tolist(), counts, f"{args.data}: images held out")
        write_skipped(folder / "skipped.csv", cached.skipped)
    cite(cache.root, out, used_rows)
    if args.json:
        print_json({"run": args.out, "spec": config["spec"], **metrics})
        return
    print_skipped(cached.skipped, out / "skipped.csv")
    _print_folds(metrics, several=len(cached.features) > 1)
    print(f"\nThe head in {args.out} reads {trained.features} and is fitted on all {len(labels)} images.")


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
    _print_scores([("test", result)])


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
    from heads import runs
    from transfer.extract import extract
    from transfer.lookup import cached_features
    from transfer.nets import net_from_config
    from transfer.request import request_for

    run, cache = runs.read(Path(args.run)), arguments.cache(args)
    views = run.views
    request = request_for(run.spec, net_from_config(run.config.get("net")), views.count if views.average else 1)
    with Progress("images", args.quiet) as progress:
        extract(dataset, request, cache, on_error=args.on_error, progress=progress)
    cached = cached_features(dataset, request, cache, on_error=args.on_error)
    if not len(cached.dataset):
        raise InvalidChoice(f"none of the {len(dataset)} images can be read.")
    features = cached.features[run.spec.layer][:]
    width = features[0].size
    if getattr(run.head, "n_features_in_", width) != width:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder}; train it again.")
    start = time.perf_counter()
    probabilities = run.head.predict_proba(features)
    if views.average:
        probabilities = views.mean(probabilities)
    return run, cached, probabilities, time.perf_counter() - start


def _print_folds(metrics: dict[str, Any], several: bool) -> None:
    for fold, number in zip(metrics["folds"], range(1, 11), strict=False):
        reads = f"  reads {fold['features']}" if several else ""
        valid = fold["valid"]
        print(f"split {number}: accuracy {valid['accuracy']:.4f}  log-loss {valid['nll']:.4f}{reads}")
    if len(metrics["folds"]) > 10:
        print(f"... and {len(metrics['folds']) - 10} more")
    print()
    _print_scores(list(metrics["summary"].items()))


def _print_scores(parts: list[tuple[str, dict[str, Any]]]) -> None:
    def cell(value: Any, digits: int) -> str:
        if isinstance(value, dict):
            spread = f" ± {value['std']:.{digits}f}" if value["std"] else ""
            return f"{value['mean']:.{digits}f}{spread}"
        return "-" if value is None else f"{value:.{digits}f}"

    columns = {
        "accuracy": ("accuracy", 4),
        "balanced accuracy": ("balanced_accuracy", 4),
        "log-loss": ("nll", 4),
        "images": ("n", 0),
        "fit (s)": ("fit_seconds", 2),
        "predict (s)": ("predict_seconds", 3),
    }
    rows = [(name, *(cell(scores[key], digits) for key, digits in columns.values())) for name, scores in parts]
    print_table(("", *columns), rows)
