"""`layertap train-head`."""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice
from layertap.commands import problem
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import Progress, print_json, print_skipped, time_text, write_skipped
from layertap.commands.terminal.scores import HEADLINES, print_scores, score_text
from layertap.report.run_pictures import illustrate

if TYPE_CHECKING:
    import numpy as np

    from transfer.data.datasets import Dataset
    from transfer.extraction.lookup import FeatureSet
    from transfer.extraction.request import FeatureRequest


def train_head(args: argparse.Namespace) -> None:
    from feature_cache.maintenance.lineage import cite, extraction_seconds, used
    from heads.evaluation.protocol import learning_curve, train
    from heads.evaluation.views import Views
    from heads.registry import make_head, record, seeded
    from layertap import runs
    from layertap.report.maps import require_method

    task, columns = problem.task(args), args.regression or args.multilabel
    args.head = args.head or ("ridge" if task == problem.REGRESSION else "logistic")
    params = dict(args.param) | ({"calibrate": True} if args.calibrate else {})
    params = seeded(args.head, params, args.seed, task)  # a mistake in them shows before any work
    grid = [dict(zip(dict(args.grid), chosen, strict=True)) for chosen in itertools.product(*dict(args.grid).values())]
    for chosen in grid:
        make_head(args.head, {**params, **chosen}, task)
    require_method(args.map)
    out = Path(args.out)
    runs.check_free(out, overwrite=args.overwrite)
    dataset, request = shared.dataset(args), shared.request(args)
    problem.targets(dataset, task, columns)
    problem.protocol(args, dataset)
    cache = shared.cache(args)
    views = Views(request.views, args.average_views)
    cached, parts = _features(args, dataset, request)
    targets, names = problem.targets(cached.dataset, task, columns)
    protocol = problem.protocol(args, cached.dataset)
    copies = problem.copies(args, cached, targets if task == problem.CLASSES else None)
    groups = problem.groups(args, cached.dataset, copies)
    problem.warn_of_parted(protocol, groups)
    splits, fitted, aside = protocol.divide(targets, groups)
    seen = problem.seen_by(net for sources in parts.values() for _, net in sources)
    images = problem.identities(args, cached)
    problem.warn_of_seen(seen, images, splits, aside)

    with Progress("splits", args.quiet) as progress:
        trained = train(cached.features, targets, groups, protocol, args.head, params, progress, views, grid=grid)
    features = cached.features[trained.features]
    metrics: dict[str, Any] = {"summary": trained.evaluation.summary(), "folds": trained.evaluation.folds}
    metrics["bagged"] = trained.evaluation.bagged(targets)
    metrics["extraction_seconds"] = extraction_seconds(features)
    if trained.test:
        metrics["test"] = trained.test
    if task == problem.REGRESSION and len(names) > 1:
        metrics["each"] = _scores_of_each(names, *trained.evaluation.held_out())
    if args.curve:
        with Progress("splits", args.quiet) as progress:
            chosen = {**params, **trained.params}
            metrics["curve"] = learning_curve(
                features, targets, groups, args.curve, protocol, args.head, chosen, views, progress
            )
    used_rows = [used(part) for each in cached.features.values() for part in getattr(each, "parts", [each])]
    config: dict[str, Any] = {
        **_source(parts[trained.features]),
        "task": problem.described(task, columns, names),
        "head": {**record(args.head, trained.head), "fit_seconds": trained.fit_seconds},
        "protocol": problem.as_dict(args, protocol),
        "candidates": list(cached.features),
        "grid": grid if len(grid) > 1 else [],
        "views": asdict(views),
        "features": [asdict(rows) for rows in used_rows],
        "data": {"name": args.data, "images": len(targets), task: list(names)},
        "skipped": [image.id for image in cached.skipped],
    }
    with runs.new_run(out, overwrite=args.overwrite) as folder:
        runs.write(folder, trained.head, config, metrics, seen.union(runs.image_keys(images[fitted])))
        illustrate(folder, args, trained, cached, targets, names, views, metrics, config)
        write_skipped(folder / "skipped.csv", cached.skipped)
    cite(cache.root, out, used_rows)
    if args.json:
        print_json({"run": args.out, "spec": config["spec"], **metrics})
        return
    print_skipped(cached.skipped, out / "skipped.csv")
    _print_folds(metrics, task, several=len(cached.features) > 1)
    for point in metrics.get("curve", []):
        mean, deviation = point["accuracy"]["mean"], point["accuracy"]["std"]
        print(f"{point['per_class']} labelled images per class: accuracy {mean:.4f} ± {deviation:.4f}")
    if "each" in metrics:
        print()
        print_scores(list(metrics["each"].items()))
    if trained.params:
        print(f"\nChosen: {', '.join(f'{name}={value}' for name, value in trained.params.items())}.")
    whole = f"all {len(targets)} images" + (" but those of the test" if trained.test else "")
    print(f"\nThe head in {args.out} reads {trained.features} and is fitted on {whole}.")
    if metrics["extraction_seconds"] is not None:
        print(f"Its features took {time_text(metrics['extraction_seconds'])} to extract.")


def _features(
    args: argparse.Namespace, dataset: Dataset, request: FeatureRequest
) -> tuple[FeatureSet, dict[str, list[tuple[Any, Any]]]]:
    """What heads may read, and for each of it the specs and nets that its parts come from."""
    from feature_cache.joined import Joined
    from transfer.extraction.request import request_of

    cache = shared.cache(args)
    cached = shared.cached(args, dataset, request, cache)
    parts = {spec.layer: [(spec, request.net)] for spec in request.specs}
    if not args.join and not args.beside:
        return cached, parts
    if len(parts) + len(args.beside) < 2:
        raise InvalidChoice("--join puts several layers side by side; name them with --layer, or spaces with --beside.")
    names, features = list(cached.features), list(cached.features.values())
    sources = [parts[name][0] for name in names]
    for name in args.beside:
        other = request_of(cache.open(name), request.views)
        found = shared.cached(args, dataset, other, cache)
        if found.dataset.ids != cached.dataset.ids:
            raise InvalidChoice(f"{name} lacks other images than the rest; extract with --on-error skip, or mend them.")
        features += found.features.values()
        cached = replace(cached, specs=(*cached.specs, *found.specs))
        sources += [(spec, other.net) for spec in other.specs]
        names.append(name)
    joined = "+".join(names)
    return replace(cached, features={joined: Joined(features)}), {joined: sources}  # type: ignore[dict-item]


def _source(parts: list[tuple[Any, Any]]) -> dict[str, Any]:
    """How a run says what its head reads."""
    described = [{"spec": json.loads(spec.to_json()), "net": net.as_config()} for spec, net in parts]
    return {**described[0], "joined": described} if len(described) > 1 else described[0]


def _scores_of_each(names: tuple[str, ...], truth: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, Any]]:
    """The scores of each of several numbers, which have units of their own, over all rows held out."""
    from heads.evaluation.metrics import score_regression

    return {name: score_regression(*of) for name, of in zip(names, zip(truth.T, predicted.T, strict=True), strict=True)}


def _print_folds(metrics: dict[str, Any], task: str, several: bool) -> None:
    for fold, number in zip(metrics["folds"], range(1, 11), strict=False):
        reads = f"  reads {fold['features']}" if several else ""
        chosen = "".join(f"  {name}={value}" for name, value in fold["params"].items())
        scores = "  ".join(f"{name} {score_text(fold['valid'][key], 4)}" for name, key in HEADLINES[task])
        print(f"split {number}: {scores}{reads}{chosen}")
    if len(metrics["folds"]) > 10:
        print(f"... and {len(metrics['folds']) - 10} more")
    print()
    parts = dict(metrics["summary"])
    if len(metrics["folds"]) > 1:
        parts["bagged"] = metrics["bagged"][-1]
    if "test" in metrics:
        parts["test"] = metrics["test"]
    print_scores(list(parts.items()))
