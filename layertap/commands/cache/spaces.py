"""`layertap cache list`, `info`, `verify` and `shrink`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from feature_cache.errors import DamagedFile, InvalidChoice, MissingFeatures, printable
from feature_cache.files.urls import shown
from heads.evaluation.protocol import Protocol
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, print_table, shape_text, size_text
from layertap.flags import with_flags
from layertap.progress.shown import ShownProgress
from transfer.engines import openvino_store

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from feature_cache.maintenance.shrink import Shrunk
    from feature_cache.segments.segment import Segment
    from feature_cache.space import Space
    from transfer.data.datasets import Dataset
    from transfer.extraction.recompute import Recomputed

LONGEST = 24  # characters of what tells a space apart
REPAIR = "set damaged segments aside with: layertap cache verify --repair"


def list_spaces(args: argparse.Namespace) -> None:
    from transfer.engines import openvino_upkeep  # slow to load, and the help does not need it

    cache = shared.cache(args)
    infos: list[dict[str, Any]] = []
    specs: dict[str, dict[str, Any]] = {}
    for name in cache.spaces():
        try:
            space = cache.open(name)
            specs[name] = json.loads(space.spec.to_json())
            row: dict[str, Any] = {"space": name, "rows": len(space), "row_shape": space.row_shape}
            row["bytes"] = space.nbytes
        except DamagedFile as error:
            print(f"layertap: {with_flags(str(error))}", file=sys.stderr)
            continue
        infos.append({**row, "segments": len(space.index.listed), "last_used": _time(space.last_used)})
    for row in infos:
        row["differs_in"] = _differences(row["space"], specs)
    conversions = openvino_upkeep.kept()
    converted_bytes = sum(one.bytes for one in conversions)
    if args.json:
        kept = {"folder": str(openvino_store.folder()), "nets": len(conversions), "bytes": converted_bytes}
        total = sum(info["bytes"] for info in infos)
        print_json({"cache": str(cache), "bytes": total, "spaces": infos, "conversions": kept})
        return
    if not infos:
        print(f"{cache} holds no features; compute some with: layertap extract")
    else:
        cells = [
            [i["space"], f"{i['rows']:,}", shape_text(i["row_shape"] or ()), size_text(i["bytes"]), i["last_used"][:10]]
            for i in infos
        ]
        cells.append(["", "", "", size_text(sum(info["bytes"] for info in infos)), ""])
        head = ["space", "rows", "a row", "size", "last used"]
        if any(row["differs_in"] for row in infos):  # spaces of the same net, layer and pooling
            head.append("what tells it apart")
            for line, row in zip(cells, infos, strict=False):
                line.append(", ".join(f"{field} {_plain(value)}" for field, value in row["differs_in"].items()))
            cells[-1].append("")
        print_table(head, cells, left=(0, 5))
    if conversions:
        nets = f"{len(conversions):,} net{'s' * (len(conversions) != 1)} converted for OpenVINO"
        print(f"\n{nets}, {size_text(converted_bytes)}, in {openvino_store.folder()} for all caches.")
        print("Remove what was not used for a month: layertap cache prune --older-than 30")


def _differences(name: str, specs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields in which a space differs from others whose names are equal but for the digest."""
    alike = [spec for other, spec in specs.items() if other.rpartition("-")[0] == name.rpartition("-")[0]]
    return {key: value for key, value in specs[name].items() if any(other.get(key) != value for other in alike)}


def _plain(value: Any) -> str:
    """The value of a field of a spec, in few characters."""
    text = "x".join(map(str, value)) if isinstance(value, list) else str("none" if value is None else value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def info(args: argparse.Namespace) -> None:
    from feature_cache.lineage import citations  # slow to load, and the help does not need it

    cache = shared.cache(args)
    space = cache.open(args.space)
    segments = [_description(segment) for segment in space.segments]
    rows, stored = sum(part["rows"] for part in segments), sum(part["bytes_uncompressed"] for part in segments)
    head = {
        "space": args.space,
        "rows": len(space),
        "copies": rows - len(space),
        "row_shape": space.row_shape,
        "bytes": space.nbytes,
        "bytes_uncompressed": stored,
        "last_used": _time(space.last_used),
        "cited_by": [citation.run for citation in citations(cache.root) if citation.space == args.space],
        "spec": json.loads(space.spec.to_json()),
    }
    if args.json:
        print_json({**head, "segments": segments})
    else:
        _print_info(space, head, segments)


def _description(segment: Segment) -> dict[str, Any]:
    return {
        "file": segment.path.name,
        "rows": len(segment),
        "bytes": segment.stamp[0],
        "compressed": segment.chunks is not None,
        "bytes_uncompressed": len(segment) * segment.row_bytes,
        "provenance": segment.provenance,
    }


def _print_info(space: Space, head: dict[str, Any], segments: list[dict[str, Any]]) -> None:
    copies = f" and {head['copies']:,} copies of some" if head["copies"] else ""
    row = shape_text(space.row_shape or ())
    print(f"{len(space):,} rows of {row}, {space.spec.dtype}{copies}, last used {head['last_used']}")
    print(f"{size_text(space.nbytes)} on disk{_ratio(segments)}")
    for run in head["cited_by"]:
        print(f"used by the run {printable(run)}")
    print()
    print_table(("", ""), [(key, value) for key, value in head["spec"].items() if value is not None], left=(0, 1))
    print()
    _print_segments(segments)


def _print_segments(segments: list[dict[str, Any]]) -> None:
    """Print a table of segments; the columns after the third are left out where they are empty."""
    cells = [
        (
            part["file"],
            f"{part['rows']:,}",
            size_text(part["bytes"]),
            f"{part['bytes_uncompressed'] / part['bytes']:.1f} x" if part["compressed"] else "",
            _rounding(part["provenance"]),
            part["provenance"].get("engine", ""),
            part["provenance"].get("finished", ""),
        )
        for part in segments
    ]
    head_cells = ("segment", "rows", "size", "shrunk", "rounding", "engine", "finished")
    shown = [column for column in range(len(head_cells)) if column < 3 or any(row[column] for row in cells)]
    print_table(
        [head_cells[c] for c in shown],
        [[row[c] for c in shown] for row in cells],
        left=(0, len(shown) - 2, len(shown) - 1),
    )


def verify(args: argparse.Namespace) -> int:
    from feature_cache.maintenance import verify as verification  # slow to load, and the help does not need it

    if (args.recompute is None) != (args.data is None):
        raise InvalidChoice("--recompute N and --images DATA go together.")
    cache = shared.cache(args)
    dataset = shared.optional_dataset(args)
    verified: list[verification.Verification] = []
    unreadable: list[str] = []
    for name in args.space or cache.spaces():
        try:
            space = cache.open(name)
        except DamagedFile as error:
            print(f"layertap: {with_flags(str(error))}", file=sys.stderr)
            unreadable.append(name)
            continue
        with ShownProgress("bytes", args.quiet) as progress:
            verified.append(verification.verify(space, progress))
        if args.repair:
            verification.set_aside(space, verified[-1].damaged)
    if not args.json:
        _print_verification(args, verified)
    results = _recompute(args, cache, dataset) if dataset is not None else []
    if args.json:
        recomputed = [{**asdict(result), "agrees": result.agrees} for result in results]
        report = {"spaces": [asdict(each) for each in verified], "recomputed": recomputed}
        print_json({**report, "unreadable": unreadable} if unreadable else report)
    left = any(each.damaged for each in verified) and not args.repair
    return 1 if left or unreadable or not all(result.agrees for result in results) else 0


def _recompute(args: argparse.Namespace, cache: FeatureCache, dataset: Dataset) -> list[Recomputed]:
    from transfer.extraction.recompute import recompute  # slow to load, and the help does not need it

    results = []
    for name in args.space or cache.spaces():
        try:
            results.append(recompute(cache.open(name), dataset, cache, args.recompute, args.seed))
        except MissingFeatures as error:
            if args.space:
                raise
            print(f"layertap: {with_flags(str(error))}", file=sys.stderr)
            continue
        except DamagedFile as error:
            print(f"layertap: {with_flags(str(error))}", file=sys.stderr)
            continue
        if not args.json:
            result = results[-1]
            print(
                f"{result.space}: {result.rows} rows computed again, largest deviation {result.deviation:.3g} "
                f"(features up to {result.largest:.4g}, tolerance {result.tolerance:.2g})"
                f"{'' if result.agrees else ': THEY DISAGREE'}"
            )
    return results


def _print_verification(args: argparse.Namespace, verified: list[Any]) -> None:
    cells = [(v.space, v.segments, f"{v.rows:,}", size_text(v.bytes), len(v.damaged) or "-") for v in verified]
    print_table(("space", "segments", "rows", "read", "damaged"), cells)
    for verification in verified:
        for damage in verification.damaged:
            print(f"{verification.space}/{damage.file} {with_flags(damage.reason)}")
    if any(verification.damaged for verification in verified):
        print(
            "Set aside; the next extract computes their rows again."
            if args.repair
            else f"{REPAIR[0].upper()}{REPAIR[1:]}"
        )


def shrink(args: argparse.Namespace) -> None:
    from feature_cache.maintenance.shrink import shrink  # slow to load, and the help does not need it
    from transfer.data.datasets import require_labels

    cache, dataset = shared.cache(args), shared.optional_dataset(args)
    space = cache.open(args.space)
    if dataset is not None:
        require_labels(dataset)
    with ShownProgress("rows", args.quiet) as progress:
        shrunk = shrink(cache, space, args.to, components=args.components, progress=progress)
    scores = _linear_head(args, cache, dataset, space, shrunk) if dataset is not None else None
    if args.json:
        print_json({**asdict(shrunk), "linear_head": scores})
        return
    ratio = shrunk.row_bytes_before / max(shrunk.row_bytes_after, 1)
    print(f"{shrunk.space}: {shrunk.rows:,} rows, {shrunk.added:,} of them new, {ratio:.1f} times smaller")
    print(f"error: largest {shrunk.largest_error:.3g}, relative {shrunk.relative_error:.2%} (root mean square)")
    if scores:
        print(f"a logistic head on {shown(args.data)}, in 5 folds:")
        for name, title in (("accuracy", "accuracy"), ("nll", "log-loss")):
            print(f"  {title} {scores['before'][name]:.4f} before, {scores['after'][name]:.4f} after")
    else:
        print("Name labelled images (DATA) to see what a linear head loses by it.")


def _linear_head(
    args: argparse.Namespace, cache: FeatureCache, dataset: Dataset, space: Space, shrunk: Shrunk
) -> dict[str, Any]:
    """Cross-validated scores of a logistic head on the full and on the shrunk features of labelled images."""
    from heads.evaluation.training import train  # slow to load, and the help does not need it
    from transfer.data.datasets import require_labels
    from transfer.extraction.lookup import rows_of

    scores = {}
    for part, where in (("before", space), ("after", cache.open(shrunk.space))):
        cached = rows_of(dataset, where, cache)
        labels = require_labels(cached.dataset)
        trained = train(cached.features, labels, cached.groups, Protocol(cv=5, seed=args.seed), "logistic")
        summary = trained.evaluation.summary()["valid"]
        scores[part] = {name: summary[name]["mean"] for name in ("accuracy", "nll")}
    return scores


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _ratio(segments: list[dict[str, Any]]) -> str:
    packed = [part for part in segments if part["compressed"]]
    if not packed:
        return ""
    before, after = (sum(part[name] for part in packed) for name in ("bytes_uncompressed", "bytes"))
    return f"; {len(packed)} of {len(segments)} segments are compressed, {before / after:.1f} times smaller"


def _rounding(provenance: dict[str, Any]) -> str:
    rounding = provenance.get("rounding")
    return f"{rounding['largest']:.2g}" if rounding else ""
