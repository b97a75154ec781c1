"""`layertap sweep`."""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice, MissingFeatures, StorageFailure
from layertap.commands import problem
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import Progress, output, print_json, print_skipped, print_table

if TYPE_CHECKING:
    from heads.evaluation.sweep import Pair, Result
    from transfer.data.datasets import Dataset
    from transfer.extraction.feature_set import FeatureSet
    from transfer.extraction.request import FeatureRequest

SHOWN = 20  # rows of the table
SEEDS = ("seed", "random_state", "estimator__random_state")  # parameters that --seed sets


@dataclass(frozen=True)
class Readout:
    """A layer of a net, as one request has it."""

    request: FeatureRequest
    layer: str

    @property
    def place(self) -> tuple[Any, ...]:
        """What readouts that are joined have in common."""
        return self.request.pooling, self.request.size

    @property
    def names(self) -> tuple[str, str]:
        """What ``--layer`` and ``--join`` may call it."""
        return self.layer, f"{self.request.net.name}:{self.layer}"


def sweep(args: argparse.Namespace) -> None:
    from heads.evaluation import sweep as sweeping
    from heads.evaluation.views import Views
    from layertap.report import plots
    from transfer.data.datasets import require_labels

    pairs_of = list(_heads(args))
    dataset = shared.dataset(args)
    require_labels(dataset)
    problem.protocol(args, dataset)
    readouts = _readouts(args)
    features, cached = _features(args, dataset, readouts)
    data = cached.dataset
    labels = require_labels(data)
    groups = problem.groups(args, data, problem.copies(args, cached, labels))
    protocol = problem.protocol(args, data)
    held_out = protocol.predefined is not None and protocol.predefined.names
    if (args.cv, args.valid, args.per_class) == (None, None, None) and not held_out:
        protocol = replace(protocol, cv=5)
    problem.warn_of_parted(protocol, groups)
    splits, _, aside = protocol.divide(labels, groups)
    seen = problem.seen_by(one.request.net for parts in readouts.values() for one in parts)
    problem.warn_of_seen(seen, problem.identities(args, cached), splits, aside)
    pairs = [sweeping.Pair(name, head, params) for name in features for head, params in pairs_of]
    out = Path(args.out)
    with Progress("pairs", args.quiet) as progress:
        results = sweeping.sweep(
            features,
            pairs,
            labels,
            groups,
            protocol,
            out / "results",
            views=Views(args.views),
            jobs=args.jobs,
            progress=progress,
        )
    costs = _costs(readouts)
    rows = [_row(result, features[result.pair.features].shape, costs[result.pair.features]) for result in results]
    judged = [result for result in results if not result.error]
    if not judged:
        raise InvalidChoice(f"no pair could be judged: {results[0].error}")
    expected = sweeping.unbiased(judged, groups, args.seed)
    front = plots.pareto([costs[result.pair.features] for result in judged], [result.accuracy for result in judged])
    for place in front:
        rows[place]["front"] = True
    names = [f"{result.pair.features} {_head_text(result.pair)}" for result in judged]
    try:
        plots.tradeoff(
            out / "sweep.png",
            names,
            [costs[result.pair.features] for result in judged],
            [result.accuracy for result in judged],
            f"{args.data}: accuracy against cost",
            cost_label="GFLOPs of the net for an image",
        )
    except OSError as error:
        raise StorageFailure(f"cannot write {out / 'sweep.png'}: {error.strerror or error}.") from error
    with output(str(out / "sweep.csv")) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    report = {
        "data": args.data,
        "images": len(labels),
        "skipped": [{"id": image.id, "reason": image.reason} for image in cached.skipped],
        "protocol": problem.as_dict(args, protocol),
        "best": expected,
        "pairs": rows,
    }
    with output(str(out / "sweep.json")) as stream:
        print_json(report, stream)
    if args.json:
        print_json(report)
        return
    print_skipped(cached.skipped, None)
    _print(rows, expected, out)


def _print(rows: list[dict[str, Any]], expected: dict[str, float], out: Path) -> None:
    def number(row: dict[str, Any], name: str, form: str) -> str:
        return "-" if row[name] is None else format(row[name], form)

    print_table(
        ("features", "head", "width", "accuracy", "log-loss", "fit (s)", "predict (s)", "GFLOPs", "front"),
        [
            (
                row["features"],
                row["head"],
                row["width"],
                "-" if row["accuracy"] is None else f"{row['accuracy']:.4f} ± {row['accuracy_std']:.4f}",
                number(row, "nll", ".4f"),
                number(row, "fit_seconds", ".2f"),
                number(row, "predict_seconds", ".3f"),
                number(row, "gflops", ".3g"),
                "*" if row["front"] else "",
            )
            for row in rows[:SHOWN]
        ],
        left=(0, 1),
    )
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} more")
    for row in rows:
        if row["error"]:
            print(f"{row['features']} with {row['head']} failed: {row['error']}")
    best = rows[0]
    print(
        f"\nBest: {best['features']} with {best['head']}. The best of {len(rows)} looks better than it is: expect an "
        f"accuracy of {expected['accuracy']:.4f} ({expected['low']:.4f} to {expected['high']:.4f})."
    )
    print(f"All in {out}: sweep.csv, sweep.json, sweep.png (* is on the front of accuracy against cost).")


def _heads(args: argparse.Namespace) -> Iterator[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Heads by name, with each combination of the parameters of ``--grid HEAD.NAME=V1,V2``."""
    from heads import make_head
    from heads.registry import seeded

    names = list(dict.fromkeys(args.head or ["logistic", "ridge", "knn"]))
    grids: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    for key, values in args.grid:
        head, dot, parameter = key.rpartition(".")
        if not dot or head not in grids:
            raise InvalidChoice(f"--grid {key}: give it as HEAD.NAME=V1,V2, of one of {', '.join(names)}.")
        grids[head][parameter] = values
    for name, grid in grids.items():
        for chosen in itertools.product(*grid.values()):
            params = dict(zip(grid, chosen, strict=True))
            make_head(name, params)  # a mistake shows before any work
            yield name, tuple(seeded(name, params, args.seed).items())


def _readouts(args: argparse.Namespace) -> dict[str, list[Readout]]:
    """What to judge, by name: single layers, and those to be joined."""

    nets = list(dict.fromkeys(args.net or ["glyphnet"]))
    of_net: dict[str, list[str]] = {net: [] for net in nets}
    for layer in args.layer:
        net, colon, name = layer.partition(":")
        if colon and net in of_net:
            of_net[net].append(name)
        elif len(nets) == 1:
            of_net[nets[0]].append(layer)
        else:
            raise InvalidChoice(
                f"--layer {layer}: of several nets, name one as NET:LAYER, NET one of {', '.join(nets)}."
            )
    singles: list[Readout] = []
    for net, size, pool in itertools.product(nets, args.size or [None], args.pool or [None]):
        request = replace(shared.request_of_net(args, net, nets), layers=tuple(of_net[net]), pooling=pool, size=size)
        singles += [Readout(request, spec.layer) for spec in request.specs]
    several = {"net": len(nets) > 1, "size": len(args.size) > 1, "pool": len(args.pool) > 1}
    named = {_name([readout], several): [readout] for readout in singles}
    for text in args.join:
        wanted = text.split("+")
        for place in dict.fromkeys(readout.place for readout in singles):
            parts = [[one for one in singles if one.place == place and name in one.names] for name in wanted]
            if len(wanted) < 2 or any(len(part) != 1 for part in parts):
                known = ", ".join(dict.fromkeys(one.names[several["net"]] for one in singles))
                raise InvalidChoice(f"--join {text}: give two or more of {known}, with + between them.")
            joined = [part[0] for part in parts]
            named[_name(joined, several)] = joined
    return named


def _name(readouts: list[Readout], several: dict[str, bool]) -> str:
    """A name that tells apart what differs in this sweep."""
    request = readouts[0].request
    text = "+".join(one.names[several["net"]] for one in readouts)
    text += f" {request.pooling}" if several["pool"] else ""
    return text + (f" {request.size[0]}x{request.size[1]}" if several["size"] and request.size else "")


def _features(
    args: argparse.Namespace, dataset: Dataset, readouts: dict[str, list[Readout]]
) -> tuple[dict[str, Any], FeatureSet]:
    """The features by name, and those of the first request with the images that can be read and the specs of all."""
    from feature_cache.joined import Joined
    from layertap.workflows.extract import compute_missing
    from transfer.extraction.lookup import stored_features

    cache = shared.cache(args)
    known = dataset.identify(cache)
    requests = list({id(one.request): one.request for parts in readouts.values() for one in parts}.values())
    cached = {}
    for request in requests:
        if args.extract:
            progress = partial(Progress, quiet=args.quiet)
            compute_missing(known, request, cache, on_error=args.on_error, progress=progress)
        try:
            cached[id(request)] = stored_features(known, request, cache, on_error=args.on_error)
        except MissingFeatures as error:
            raise MissingFeatures(f"{error} Compute what is missing with --extract.") from error
    found: dict[str, Any] = {}
    for name, parts in readouts.items():
        features = [cached[id(one.request)].features[one.layer] for one in parts]
        found[name] = features[0] if len(features) == 1 else Joined(features)
    specs = tuple(spec for one in cached.values() for spec in one.specs)  # copies for one are copies for all
    return found, replace(cached[id(requests[0])], specs=specs)


def _costs(readouts: dict[str, list[Readout]]) -> dict[str, float]:
    """Billions of operations of the nets for an image, by the name of the features."""
    from transfer.nets.costs import flops

    backbones: dict[tuple[Any, ...], Any] = {}
    for one in itertools.chain.from_iterable(readouts.values()):
        net = one.request.net
        outline = net if net.is_file else replace(net, weights="none")  # what it costs does not depend on weights
        request = replace(one.request, net=outline, layers=tuple(dict.fromkeys((*one.request.layers, one.layer))))
        key = net.name, one.request.size
        if key not in backbones:
            backbones[key] = request.build()
    costs = {}
    for name, parts in readouts.items():
        layers: dict[tuple[Any, ...], list[str]] = {}
        for one in parts:
            layers.setdefault((one.request.net.name, one.request.size), []).append(one.layer)
        costs[name] = sum(flops(*(backbones[key].taps[layer] for layer in some)) for key, some in layers.items()) / 1e9
    return costs


def _head_text(pair: Pair) -> str:
    params = " ".join(f"{name}={value}" for name, value in pair.params if name not in SEEDS)
    return f"{pair.head} {params}".rstrip()


def _row(result: Result, shape: tuple[int, ...], gflops: float) -> dict[str, Any]:
    valid = result.summary.get("valid", {})

    def mean(name: str) -> float | None:
        return valid[name]["mean"] if valid else None

    return {
        "features": result.pair.features,
        "head": _head_text(result.pair),
        "width": math.prod(shape[1:]),
        "accuracy": mean("accuracy"),
        "accuracy_std": valid["accuracy"]["std"] if valid else None,
        "balanced_accuracy": mean("balanced_accuracy"),
        "nll": mean("nll"),
        "fit_seconds": mean("fit_seconds"),
        "predict_seconds": mean("predict_seconds"),
        "gflops": gflops,
        "front": False,
        "error": result.error,
    }
