"""`layertap train-head`."""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import arguments
from commands.heads import print_scores
from commands.output import Progress, print_json, print_skipped, write_skipped
from feature_cache.errors import InvalidChoice

if TYPE_CHECKING:
    from heads.training import Trained
    from heads.views import Views
    from transfer.datasets import DataSet
    from transfer.lookup import Cached
    from transfer.request import Request


def train_head(args: argparse.Namespace) -> None:
    from feature_cache.lineage import cite, used
    from heads import runs
    from heads.registry import make_head, record, seeded
    from heads.training import Protocol, learning_curve, train
    from heads.views import Views
    from transfer.datasets import require_labels

    protocol = Protocol(args.cv, args.valid, args.per_class, args.draws, args.seed, args.test)
    params = dict(args.param) | ({"calibrate": True} if args.calibrate else {})
    params = seeded(args.head, params, args.seed)  # a mistake in them shows before any work
    grid = [dict(zip(dict(args.grid), chosen, strict=True)) for chosen in itertools.product(*dict(args.grid).values())]
    for chosen in grid:
        make_head(args.head, {**params, **chosen})
    out = Path(args.out)
    runs.check_free(out, overwrite=args.overwrite)
    dataset, request = arguments.dataset(args), arguments.request(args)
    require_labels(dataset)
    cache = arguments.cache(args)
    views = Views(request.views, args.average_views)
    cached, parts = _features(args, dataset, request)
    labels = require_labels(cached.dataset)

    with Progress("splits", args.quiet) as progress:
        trained = train(
            cached.features, labels, cached.contents, protocol, args.head, params, progress, views, grid=grid
        )
    metrics: dict[str, Any] = {"summary": trained.evaluation.summary(), "folds": trained.evaluation.folds}
    metrics["bagged"] = trained.evaluation.bagged(labels)
    if trained.test:
        metrics["test"] = trained.test
    if args.curve:
        with Progress("splits", args.quiet) as progress:
            features = cached.features[trained.features]
            chosen = {**params, **trained.params}
            metrics["curve"] = learning_curve(
                features, labels, cached.contents, args.curve, protocol, args.head, chosen, views, progress
            )
    used_rows = [used(part) for features in cached.features.values() for part in getattr(features, "parts", [features])]
    source = _source(parts[trained.features])
    config: dict[str, Any] = {
        **source,
        "head": {**record(args.head, trained.head), "fit_seconds": trained.fit_seconds},
        "protocol": protocol.as_dict(),
        "candidates": list(cached.features),
        "grid": grid if len(grid) > 1 else [],
        "views": asdict(views),
        "features": [asdict(rows) for rows in used_rows],
        "data": {"name": args.data, "images": len(labels), "classes": trained.head.classes_.tolist()},
        "skipped": [problem.id for problem in cached.skipped],
    }
    with runs.new_run(out, overwrite=args.overwrite) as folder:
        runs.write(folder, trained.head, config, metrics)
        _illustrate(folder, args, trained, cached, views, metrics, config)
        write_skipped(folder / "skipped.csv", cached.skipped)
    cite(cache.root, out, used_rows)
    if args.json:
        print_json({"run": args.out, "spec": config["spec"], **metrics})
        return
    print_skipped(cached.skipped, out / "skipped.csv")
    _print_folds(metrics, several=len(cached.features) > 1)
    for point in metrics.get("curve", []):
        mean, deviation = point["accuracy"]["mean"], point["accuracy"]["std"]
        print(f"{point['per_class']} labelled images per class: accuracy {mean:.4f} ± {deviation:.4f}")
    if trained.params:
        print(f"\nChosen: {', '.join(f'{name}={value}' for name, value in trained.params.items())}.")
    whole = "all" if not trained.test else "all but the test's of"
    print(f"\nThe head in {args.out} reads {trained.features} and is fitted on {whole} {len(labels)} images.")


def _features(
    args: argparse.Namespace, dataset: DataSet, request: Request
) -> tuple[Cached, dict[str, list[tuple[Any, Any]]]]:
    """What heads may read, and for each of it the specs and nets that its parts come from."""
    from feature_cache.joined import Joined
    from transfer.request import request_of

    cache = arguments.cache(args)
    cached = arguments.cached(args, dataset, request, cache)
    parts = {spec.layer: [(spec, request.net)] for spec in request.specs}
    if not args.join and not args.beside:
        return cached, parts
    if len(parts) + len(args.beside) < 2:
        raise InvalidChoice("--join puts several layers side by side; name them with --layer, or spaces with --beside.")
    names, features = list(cached.features), list(cached.features.values())
    sources = [parts[name][0] for name in names]
    for name in args.beside:
        other = request_of(cache.open(name), request.views)
        found = arguments.cached(args, dataset, other, cache)
        if found.dataset.ids != cached.dataset.ids:
            raise InvalidChoice(f"{name} lacks other images than the rest; extract with --on-error skip, or mend them.")
        features += found.features.values()
        sources += [(spec, other.net) for spec in other.specs]
        names.append(name)
    joined = "+".join(names)
    return replace(cached, features={joined: Joined(features)}), {joined: sources}  # type: ignore[dict-item]


def _source(parts: list[tuple[Any, Any]]) -> dict[str, Any]:
    """How a run says what its head reads."""
    described = [{"spec": json.loads(spec.to_json()), "net": net.as_config()} for spec, net in parts]
    return {**described[0], "joined": described} if len(described) > 1 else described[0]


def _illustrate(
    folder: Path,
    args: argparse.Namespace,
    trained: Trained,
    cached: Cached,
    views: Views,
    metrics: dict[str, Any],
    config: dict[str, Any],
) -> None:
    """Draw the pictures of a run, and write its report."""
    import numpy as np

    from heads import maps, panels, plots, report
    from heads.metrics import confusion, most_wrong, per_class, reliability
    from transfer.datasets import require_labels

    labels = require_labels(cached.dataset)
    classes, evaluation = np.unique(labels), trained.evaluation
    truth, predicted = evaluation.held_out()
    rows, probabilities = np.concatenate(evaluation.rows), np.concatenate(evaluation.probabilities)
    title = f"{args.data}: images held out"
    pictures = {"Confusion": "confusion.png", "Reliability": "reliability.png"}
    plots.confusion(folder / "confusion.png", classes.tolist(), confusion(classes, truth, predicted), title)
    plots.reliability(folder / "reliability.png", reliability(classes, truth, probabilities), title)
    if metrics.get("curve"):
        points = metrics["curve"]
        curve = [(point["accuracy"]["mean"], point["accuracy"]["std"]) for point in points]
        numbers = [point["per_class"] for point in points]
        plots.learning_curves(folder / "curve.png", numbers, {args.head: curve}, args.data)
        pictures["Learning curve"] = "curve.png"
    wrong = most_wrong(classes, truth, probabilities, most=4 * panels.MOST_MISTAKES)
    _, first = np.unique(rows[wrong], return_index=True)  # an image may have been mistaken in several splits
    wrong = wrong[np.sort(first)][: panels.MOST_MISTAKES]
    if len(wrong):
        images = [np.asarray(cached.dataset.sources[row].load()[1].convert("RGB")) for row in rows[wrong]]
        captions = [
            panels.mistake(cached.dataset.ids[rows[one]], truth[one], predicted[one], float(probabilities[one].max()))
            for one in wrong
        ]
        panels.mistakes(folder / "mistakes.png", images, captions, f"{args.data}: the surest mistakes")
        pictures["Surest mistakes (look at their labels)"] = "mistakes.png"
    features = cached.features[trained.features]
    maps.feature_map(folder / "map.png", features, labels, f"{args.data}: features", seed=args.seed, every=views.count)
    pictures["Map of the features"] = "map.png"
    scores = {**metrics["summary"], **({"test": trained.test} if trained.test else {})}
    made = {
        "Features": config["spec"],
        "Head": config["head"],
        "Protocol": config["protocol"],
        "Data": {"name": args.data, "images": len(labels), "classes": len(classes), "skipped": len(cached.skipped)},
    }
    files = {heading: folder / name for heading, name in pictures.items()}
    report.write_report(folder, f"{args.data}: {args.head}", scores, made, per_class(classes, truth, predicted), files)


def _print_folds(metrics: dict[str, Any], several: bool) -> None:
    for fold, number in zip(metrics["folds"], range(1, 11), strict=False):
        reads = f"  reads {fold['features']}" if several else ""
        chosen = "".join(f"  {name}={value}" for name, value in fold["params"].items())
        valid = fold["valid"]
        print(f"split {number}: accuracy {valid['accuracy']:.4f}  log-loss {valid['nll']:.4f}{reads}{chosen}")
    if len(metrics["folds"]) > 10:
        print(f"... and {len(metrics['folds']) - 10} more")
    print()
    parts = dict(metrics["summary"])
    if len(metrics["folds"]) > 1:
        parts["bagged"] = metrics["bagged"][-1]
    if "test" in metrics:
        parts["test"] = metrics["test"]
    print_scores(list(parts.items()))
