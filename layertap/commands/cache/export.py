"""`layertap cache export` and `view`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import InvalidChoice
from feature_cache.maintenance.export import export as write_rows
from feature_cache.maintenance.hdf5_view import write_view
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json, shape_text
from transfer.extraction.lookup import rows_of

if TYPE_CHECKING:
    from feature_cache.cache import FeatureCache
    from feature_cache.features import Features
    from feature_cache.space import Space
    from transfer.data.datasets import Dataset


def export(args: argparse.Namespace) -> None:
    cache = shared.cache(args)
    space = cache.open(args.space)
    out = Path(args.out)
    for file in (out, out.with_suffix(".csv")) if out.suffix.lower() == ".npy" else (out,):
        _check_free(file, args)
    features, columns = _columns(space, cache, shared.optional_dataset(args))
    files = write_rows(features, columns, out)
    if args.json:
        print_json({"files": [str(file) for file in files], "rows": len(features), "columns": list(columns)})
    else:
        print(f"{len(features):,} rows of {shape_text(features.shape[1:])} in {' and '.join(map(str, files))}")


def _columns(space: Space, cache: FeatureCache, dataset: Dataset | None) -> tuple[Features, dict[str, Any]]:
    """The features, and the text columns that go with them."""
    columns: dict[str, Any] = {}
    if dataset is None:
        features = space.all_rows()
    else:
        cached = rows_of(dataset, space, cache)
        features = cached.features[space.spec.layer]
        columns["id"] = np.array(cached.dataset.ids, dtype=str)
        if cached.dataset.labels is not None:
            columns["class"] = cached.dataset.labels.astype(str)
        for problem in cached.skipped:
            print(f"left out {problem.id}: {problem.reason}", file=sys.stderr)
    digests, views = features.keys()
    columns["digest"] = np.array([digest.tobytes().hex() for digest in digests], dtype=str)
    if views.any():
        columns["view"] = views.astype(str)
    return features, columns


def view(args: argparse.Namespace) -> None:
    space = shared.cache(args).open(args.space)
    _check_free(Path(args.out), args)
    rows = write_view(space, Path(args.out))
    if args.json:
        print_json({"file": args.out, "rows": rows})
    else:
        print(f"{args.out} shows {rows:,} rows of {args.space}; it needs the segments where they are.")


def _check_free(file: Path, args: argparse.Namespace) -> None:
    if file.exists() and not args.overwrite:
        raise InvalidChoice(f"{file} exists; choose another file with --out, or replace it with --overwrite.")
