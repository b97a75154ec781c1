"""Finding: the quantised nets that a cache has for the features of a request. Nothing is computed or written."""

from __future__ import annotations

from dataclasses import replace

from feature_cache.cache import FeatureCache
from feature_cache.errors import DamagedFile
from feature_cache.files import quantised_nets
from transfer.data.dataset import IdentifiedDataset
from transfer.quantisation.engine import QuantisedNet
from transfer.request import FeatureRequest

INT8 = "int8"


def found(request: FeatureRequest, cache: FeatureCache, dataset: IdentifiedDataset) -> FeatureRequest:
    """The request with the quantised nets that the cache has for its layers; nothing is computed.

    Of several nets for a layer, the one is taken that has computed most of these images, and then the one that was
    calibrated on most of them.
    """
    if request.precision != INT8:
        return request
    known = dict(request.calibrations)
    lacking = {spec.as_computed: spec.layer for spec in request.specs if spec.calibration is None}
    lacking = {replace(spec, augmentation=None): layer for spec, layer in lacking.items()}
    best: dict[str, tuple[int, int, str]] = {}
    names = [name for name in cache.spaces() if lacking and name.startswith(f"{request.specs[0].net}-")]
    for name in names:
        try:
            space = cache.open(name)
            spec = replace(space.spec.as_computed, augmentation=None, calibration=None)
            calibration = space.spec.calibration
            if spec not in lacking or calibration is None or not quantised_nets.kept(cache.root, calibration):
                continue
            rows = int(space.has(dataset.digests[dataset.first_of_each]).sum())
            rank = (rows, calibrated_among(dataset, cache, calibration), calibration)
        except DamagedFile:
            continue
        best[lacking[spec]] = max(rank, best.get(lacking[spec], rank))
    known |= {layer: calibration for layer, (*_, calibration) in best.items()}
    return replace(request, calibrations=tuple(known.items()))


def by_net(request: FeatureRequest) -> list[FeatureRequest]:
    """Requests of one quantised net each, which together are this one; the request itself in other precisions."""
    layers: dict[str | None, list[str]] = {}
    for spec in request.specs:
        layers.setdefault(spec.calibration, []).append(spec.layer)
    if len(layers) == 1:
        return [request]
    return [replace(request, layers=tuple(some)) for some in layers.values()]


def net_of(request: FeatureRequest, cache: FeatureCache) -> QuantisedNet | None:
    """The quantised net that computes a settled request of one net; None for other precisions.

    Raises
    ------
    MissingFeatures, DamagedFile
        When the cache does not have it, or it was altered.
    """
    if request.precision != INT8:
        return None
    file, content = quantised_nets.read(cache.root, str(request.specs[0].calibration))
    layers = content["layers"]
    return QuantisedNet(file, tuple(layers.index(spec.layer) for spec in request.specs))


def calibrated_among(dataset: IdentifiedDataset, cache: FeatureCache, calibration: str) -> int:
    """How many of the calibration images of a net are in the data set."""
    images = set(quantised_nets.document(cache.root, calibration)["images"])
    return len(images & {digest.tobytes().hex() for digest in dataset.digests[dataset.first_of_each]})
