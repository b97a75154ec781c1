"""Shrinking: a copy of a space in fewer bits or dimensions, as a space of its own (see `segments.encoding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, DamagedFile, InvalidChoice, MissingFeatures
from feature_cache.features import Features
from feature_cache.remote.storage import shown
from feature_cache.segments import encoding
from feature_cache.segments.encoding import Parameters, Rounding
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from feature_cache.version import own_version
from feature_cache.writer import SpaceWriter

KINDS = ("float16", "int8", "pca")
# Principal axes need a matrix of this many features squared, in float64, and its eigenvectors.
PCA_FEATURES = 8192
PIECE_BYTES = 32 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shrunk:
    """A shrunk copy of a space.

    Attributes
    ----------
    space : str
    rows, added : int
        Rows in the copy, and those that were not there before.
    row_bytes_before, row_bytes_after : int
        Bytes of a row.
    largest_error, relative_error : float
        Of the rows as they are read (for pca, as they would be put back from the axes): the largest absolute
        difference, and the root mean square of the difference divided by that of the features.
    """

    space: str
    rows: int
    added: int
    row_bytes_before: int
    row_bytes_after: int
    largest_error: float
    relative_error: float


def shrink(
    cache: FeatureCache, space: Space, kind: str, *, components: int | None = None, progress: Progress | None = None
) -> Shrunk:
    """Make, or complete, the copy of `space` that is of `kind`.

    Scales and axes come from the rows that there are now; a copy that was made before is completed with its own,
    unless new rows are beyond its int8 scales: then there is a new one.

    Parameters
    ----------
    kind : {'float16', 'int8', 'pca'}
    components : int
        Axes of pca.
    progress : callable, optional
        Called with the number of rows written and of all.

    Raises
    ------
    InvalidChoice
        When `space` cannot be shrunk so.
    MissingFeatures
        When it has no rows.
    BadData
        When a feature is beyond the range of float16.
    """
    if kind not in KINDS:
        raise InvalidChoice(f"there is no kind {kind!r} of shrinking; allowed: {', '.join(KINDS)}.")
    if space.spec.coding or space.spec.dtype != "float32":
        raise InvalidChoice(f"{space.folder.name} is a shrunk copy already; shrink the space that it was made from.")
    if not len(space):
        raise MissingFeatures(f"{shown(space.folder)} has no rows to shrink.")
    features = space.all_rows()
    spec, parameters = _target(cache, space, features, kind, components)
    added, rounding = _add(cache[spec], features, parameters, progress)
    copy = cache[spec]
    return Shrunk(
        space=copy.folder.name,
        rows=len(copy),
        added=added,
        row_bytes_before=features.row_bytes,
        row_bytes_after=int(np.prod(copy.row_shape or (), dtype=np.int64)) * np.dtype(spec.dtype).itemsize,
        largest_error=rounding.largest,
        relative_error=rounding.relative,
    )


def complete(
    cache: FeatureCache,
    spec: FeatureSpec,
    digests: np.ndarray,
    views: np.ndarray | None = None,
    *,
    compress: bool = False,
) -> int:
    """Add to the shrunk space of `spec` those of these rows that it lacks and its full space has.

    Returns
    -------
    int
        The number of rows added.

    Raises
    ------
    MissingFeatures
        When the scales or axes of `spec` are gone with its rows.
    """
    target, base = cache[spec], cache[spec.as_computed]
    views = np.zeros(len(digests), np.uint32) if views is None else views
    missing = ~target.has(digests, views) & base.has(digests, views)
    if not missing.any():
        return 0
    ids = np.unique(base.locate(digests[missing], views[missing]))
    rows = base.rows(base.index.digests[ids], base.index.views[ids])
    return _add(target, rows, parameters_of(target), None, compress)[0]


def parameters_of(space: Space) -> Parameters:
    """The scales or axes of a shrunk space, from its segments.

    Raises
    ------
    MissingFeatures
        When it has no rows left to tell them.
    """
    if space.spec.coding is None:
        return {}
    part = space.any_segment()
    if part is None:
        raise MissingFeatures(
            f"{shown(space.folder)} has no rows left, and with them its codes are lost; shrink again."
        )
    return part.coding


def _target(
    cache: FeatureCache, space: Space, features: Features, kind: str, components: int | None
) -> tuple[FeatureSpec, Parameters]:
    """The spec of the copy, and its scales or axes: those of an existing copy, if it can take all rows."""
    if kind == "float16":
        return replace(space.spec, dtype="float16"), {}
    if kind == "int8":
        largest = _largest(features)
        for copy in _copies(cache, space, "int8-"):
            if (largest <= parameters_of(copy)["scale"] * 127.5).all():
                return copy.spec, parameters_of(copy)
        parameters = encoding.int8_parameters(largest)
        return replace(space.spec, dtype="int8", coding=f"int8-{encoding.digest(parameters)}"), parameters
    width = features.row_bytes // features.dtype.itemsize
    if components is None or not 1 <= components <= min(width, len(features)):
        raise InvalidChoice(
            f"pca keeps 1 to {min(width, len(features))} components here; received {components}. Give `components`."
        )
    if width > PCA_FEATURES:
        raise InvalidChoice(f"pca takes up to {PCA_FEATURES} features, and these are {width}; pool them first.")
    for copy in _copies(cache, space, f"pca{components}-"):
        return copy.spec, parameters_of(copy)
    parameters = _axes(features, components)
    return replace(space.spec, coding=f"pca{components}-{encoding.digest(parameters)}"), parameters


def _copies(cache: FeatureCache, space: Space, start: str) -> Iterator[Space]:
    """The shrunk copies of `space` that have rows, and codes of the kind `start`."""
    for name in cache.spaces():
        try:
            other = cache.open(name)
            if (other.spec.coding or "").startswith(start) and other.spec.as_computed == space.spec and len(other):
                yield other
        except DamagedFile:
            continue


def _add(
    target: Space,
    features: Features,
    parameters: Parameters,
    progress: Progress | None,
    compress: bool = False,
) -> tuple[int, Rounding]:
    """Encode rows into `target`, except those that it has already; return the error over all of them."""
    spec, rounding, added = target.spec, Rounding(), 0
    provenance: dict[str, Any] = {"layertap": own_version(), "shrunk_from": features.space.folder.name}
    source = Space(features.space.folder, features.space.spec).any_segment()
    if source:
        provenance["net"] = source.provenance.get("net")
    target.create()
    with SpaceWriter(target.folder, spec, provenance, parameters=parameters, compress=compress) as writer:
        for rows, positions in features.batches(_piece(features)):
            codes, back = _encode(rows, spec, parameters)
            rounding.add(rows, back)
            digests, views = features.keys(positions)
            new = ~target.has(digests, views)
            writer.append(digests[new], (rows if spec.dtype == "float16" else codes)[new], views[new])
            added += int(new.sum())
            if progress:
                progress(int(positions[-1]) + 1, len(features))
    return added, rounding


def _encode(rows: np.ndarray, spec: FeatureSpec, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """The rows as they are stored, and as they are decoded."""
    if spec.dtype == "int8":
        codes = encoding.to_int8(rows, parameters)
        return codes, encoding.decode(codes, spec, parameters)
    if spec.coding:
        places = encoding.to_axes(rows, parameters)
        return places, (places @ parameters["axes"] + parameters["mean"]).reshape(rows.shape)
    codes = encoding.to_dtype(rows, spec)
    return codes, codes


def _largest(features: Features) -> np.ndarray:
    """The largest absolute value of each channel."""
    channels = features.shape[-1] if features.ndim > 1 else 1
    largest = np.zeros(channels, np.float32)
    for rows, _ in features.batches(_piece(features)):
        largest = np.maximum(largest, np.abs(rows).reshape(-1, channels).max(0))
    return _finite(features, largest)


def _axes(features: Features, components: int) -> Parameters:
    """Mean and principal axes, by the eigenvectors of the covariance matrix, summed in float64."""
    width = features.row_bytes // features.dtype.itemsize
    total, square = np.zeros(width), np.zeros((width, width))
    for rows, _ in features.batches(_piece(features)):
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        total, square = total + flat.sum(0), square + flat.T @ flat
    mean = _finite(features, total) / len(features)
    _, vectors = np.linalg.eigh(square / len(features) - np.outer(mean, mean))
    axes = vectors[:, : -components - 1 : -1].T
    axes *= np.sign(axes[np.arange(components), np.abs(axes).argmax(1)])[:, None]  # the sign is free: choose one
    return {"mean": mean.astype(np.float32), "axes": np.ascontiguousarray(axes, np.float32)}


def _finite(features: Features, numbers: np.ndarray) -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise BadData(
            f"features in {shown(features.space.folder)} are infinite or not numbers; such rows cannot be shrunk."
        )
    return numbers


def _piece(features: Features) -> int:
    return max(1, PIECE_BYTES // max(features.row_bytes, 1))
