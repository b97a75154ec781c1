"""Settling: which quantised net computes the features of a request in int8.

It is found in the cache, or made, and refused where computing in int8 breaks it. It is decided once for the features of
a net at a layer. Whoever requests them later, for the same images or for others, gets the net that computed the rows
which are there, so that no row is computed twice, and all rows come from one net.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage, InvalidChoice, LayertapError, one_line
from feature_cache.files import quantised_nets
from feature_cache.files.disks import disk_failure
from feature_cache.files.quantised_nets import Calibration
from transfer.data.dataset import IdentifiedDataset
from transfer.engines.base import Engine, Pending, out_of_memory
from transfer.engines.batch import default_batch_size
from transfer.engines.factory import EngineFactory
from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.engines.selection import choose, require_openvino
from transfer.extraction.lookup import refusal
from transfer.extraction.reading import read_batches
from transfer.hardware import multiplies_int8
from transfer.nets.openvino_files.net import OpenVinoNet
from transfer.quantisation.engine import QuantisedEngine, as_colour
from transfer.quantisation.finding import INT8, calibrated_among, found, net_of
from transfer.quantisation.losses import Loss
from transfer.quantisation.quantiser import quantise, require_quantiser
from transfer.request import FeatureRequest, SharedNet

COLOUR = 3  # channels of the images that a quantised net takes
IMAGES = 300  # that a net is calibrated on; the ranges of its activations hardly change with more
LEAST = 10  # images that it may be calibrated on
CHECKED = 32  # images of a data set that has none of the calibration images, which are computed in float32, too
COMPARED_BYTES = 128 * 2**20  # of features that are compared with float32, for each of the two
# A loss of so much of what tells images apart is a broken net (see `Loss.of_spread`). A net that is of no use is at 1;
# efficientnetlite0 was at 0.36 on Fashion-MNIST, and glyphnet at 0.69 on noise, where a linear head lost nothing.
BROKEN = 0.9
# A loss on other images that is so many times that on the calibration images.
GROWN = 2.0


@dataclass(frozen=True)
class Settled:
    """A request whose quantised nets are known, as far as it has any.

    Attributes
    ----------
    notes, warnings : tuple of str
        Sentences: how the nets were calibrated, what that changes, and where it may not suit the images.
    losses : tuple of Loss
        Of each layer whose net was quantised now.
    """

    request: FeatureRequest
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()


def settle(
    dataset: IdentifiedDataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    engine: str = "auto",
    on_error: str = "fail",
    anew: bool = False,
    net: SharedNet | None = None,
) -> Settled:
    """The request with the quantised nets that compute it: those in the cache, and new ones for the other layers.

    A request in another precision stays as it is.

    Parameters
    ----------
    engine : {'auto', 'keras', 'openvino'}
        See `transfer.engines.selection.choose`.
    on_error : {'fail', 'skip'}
        Whether an unreadable image is an error, or is left out.
    anew : bool
        Whether nets are quantised anew, for all layers and on these images, though the cache has some.
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too.

    Raises
    ------
    InvalidChoice
        When there are too few images, the engine does not compute in int8, or int8 breaks the net.
    BadImage
        If an image is unreadable, unless such images are skipped.
    MissingDependency
        When NNCF is not installed, and a net has to be quantised.
    MissingFeatures
        When the request names a net that the cache does not have.
    """
    if request.precision != INT8:
        return Settled(request)
    if request.net.is_openvino_file:
        require_openvino(engine, INT8, request.net.name)
    else:
        choose(engine, INT8)  # an error if it does not compute so
    if net is None:
        request, backbone = request.resolve()
        net = SharedNet(request, backbone)
    named = {spec.layer for spec in request.specs if spec.calibration is not None}
    if not anew:
        request = found(request, cache, dataset)
    lacking = tuple(spec.layer for spec in request.specs if spec.calibration is None)
    notes, warnings = _of_processor(), tuple[str, ...]()
    reused = [spec for spec in request.specs if spec.calibration is not None and spec.layer not in named]
    for earlier in dict.fromkeys(str(spec.calibration) for spec in reused):
        note, warning = _reuse(dataset, request, cache, earlier, net)
        notes, warnings = (*notes, note), (*warnings, *warning)
    if not lacking:
        return Settled(request, notes if reused else (), warnings)
    new = replace(request, layers=lacking, calibrations=(), augmentation=None, views=1)
    start = time.perf_counter()
    calibration, losses = _quantised(dataset, new, cache, on_error, net)
    made = _made_note(calibration, losses, time.perf_counter() - start)
    calibrations = (*request.calibrations, *((layer, str(calibration)) for layer in lacking))
    return Settled(replace(request, calibrations=calibrations), (*notes, made), warnings, losses)


def _of_processor() -> tuple[str, ...]:
    if multiplies_int8() is not False:
        return ()
    return ("int8 may be no faster than float32 on this processor, which has no instructions for it (VNNI or AMX)",)


def _reuse(
    dataset: IdentifiedDataset, request: FeatureRequest, cache: FeatureCache, calibration: str, net: SharedNet
) -> tuple[str, tuple[str, ...]]:
    """What to say of a net that was quantised before, and a warning where it does not suit these images."""
    count, among = Calibration.parse(calibration).count, calibrated_among(dataset, cache, calibration)
    note = f"int8: computed by the net that an earlier extraction calibrated on {count} images, {among} of them these"
    part = replace(
        request,
        layers=tuple(spec.layer for spec in request.specs if spec.calibration == calibration),
        augmentation=None,
        views=1,
    )
    first = dataset.first_of_each
    lacking = np.any([~cache[spec].has(dataset.digests[first]) for spec in part.specs], axis=0)
    if among or lacking.sum() < LEAST:
        return note, ()
    chosen = np.random.default_rng(0).permutation(first[lacking])[:CHECKED]
    _, images = _pixels(dataset, part, chosen, "skip")
    if not len(images):
        return note, ()
    quantised, before = net_of(part, cache), quantised_nets.document(cache.root, calibration)["losses"]
    assert quantised is not None
    batch_size = default_batch_size("openvino", part.specs[0].size)
    exact = _outputs(OpenVinoEngine(_in_float32(part, net), batch_size), images)
    rounded = _outputs(QuantisedEngine(quantised, batch_size), images)
    warnings = []
    for spec, *rows in zip(part.specs, exact, rounded, strict=True):
        loss = Loss(spec.layer, chosen, *rows).relative
        if loss > GROWN * before[spec.layer]:
            warnings.append(
                f"int8 changes the features of these images by {loss:.1%} at {spec.layer}, and those that its net was "
                f"calibrated on by {before[spec.layer]:.1%}; quantise it on these with `requantise=True`."
            )
    return note, tuple(warnings)


def _quantised(
    dataset: IdentifiedDataset, request: FeatureRequest, cache: FeatureCache, on_error: str, net: SharedNet
) -> tuple[Calibration, tuple[Loss, ...]]:
    """Quantise the net of a request on some images of the data set, keep it, and compare it with float32."""
    require_quantiser()
    seed = request.net.seed
    positions, images = _pixels(dataset, request, _chosen(dataset, seed), on_error)
    if len(images) < LEAST:
        raise InvalidChoice(
            f"a net is quantised by the images of a data set, {LEAST} at least, and {dataset.name} has {len(images)}; "
            "extract a larger data set first, or use another `precision`."
        )
    digests = dataset.digests[positions]
    batch_size = default_batch_size("openvino", request.specs[0].size)
    with tempfile.TemporaryDirectory(prefix="layertap-") as made:
        file = Path(made) / quantised_nets.NET
        _quantise(request, net, images, file)
        exact = _outputs(OpenVinoEngine(_in_float32(request, net), batch_size), images)
        rounded = _outputs(OpenVinoEngine(file, batch_size), images)
        layers = [spec.layer for spec in request.specs]
        losses = tuple(
            Loss(layer, positions[: len(rows[0])], *rows) for layer, *rows in zip(layers, exact, rounded, strict=True)
        )
        _require_whole(request, losses)
        content = {
            "net": request.net.as_config(),
            "layers": layers,
            "images": sorted(digest.tobytes().hex() for digest in digests),
            "seed": seed,
            "losses": {loss.layer: loss.relative for loss in losses},
            "versions": {name: version(name) for name in ("nncf", "openvino")},
        }
        images_digest = quantised_nets.images_digest(digests)
        calibration = quantised_nets.keep(
            cache.root, Path(made), content, count=len(images), seed=seed, images=images_digest
        )
    return calibration, losses


def _quantise(request: FeatureRequest, net: SharedNet, images: np.ndarray, file: Path) -> None:
    exact = _in_float32(request, net)
    try:
        quantise(exact, images, file)
    except LayertapError:
        raise
    except Exception as error:  # NNCF raises many types
        if out_of_memory(error) or disk_failure(error, file.parent):
            raise
        reason = one_line(error, with_type=True)
        raise BadData(f"NNCF cannot quantise {request.net.name}: {reason}; use another `precision`.") from error


def _require_whole(request: FeatureRequest, losses: Iterable[Loss]) -> None:
    """Raise InvalidChoice where features in int8 do not tell images apart as those in float32 do."""
    for loss in losses:
        if loss.of_spread >= BROKEN:
            raise InvalidChoice(
                f"int8 breaks {request.net.name}: at {loss.layer} it changes features by {loss.of_spread:.0%} of what "
                "tells the images apart; use another `precision`."
            )


def _chosen(dataset: IdentifiedDataset, seed: int) -> np.ndarray:
    """The positions of the calibration images: `IMAGES` of different contents, whatever the order of the data set."""
    first = dataset.first_of_each
    halves = np.ascontiguousarray(dataset.digests[first]).view(">u8")
    ordered = first[np.lexsort((halves[:, 1], halves[:, 0]))]
    return np.random.default_rng(seed).permutation(ordered)[:IMAGES]


def _pixels(
    dataset: IdentifiedDataset, request: FeatureRequest, positions: np.ndarray, on_error: str
) -> tuple[np.ndarray, np.ndarray]:
    """The images at some positions that can be decoded, with these positions; all with three channels."""
    undecodable: dict[int, BadImage] = {}
    pixels: dict[bytes, np.ndarray] = {}
    for batch in read_batches(dataset, positions.tolist(), request, LEAST, undecodable):
        for digest, image in zip(batch.digests, as_colour(batch.inputs), strict=True):
            pixels[digest.tobytes()] = image.copy()
        batch.release()
    if undecodable and on_error == "fail":
        raise refusal(dataset.with_content_of(undecodable))
    decoded = [position for position in positions.tolist() if dataset.digests[position].tobytes() in pixels]
    images = [pixels[dataset.digests[position].tobytes()] for position in decoded]
    height, width = request.specs[0].size
    return np.array(decoded, np.int64), np.stack(images) if images else np.empty((0, height, width, 3), np.uint8)


def _in_float32(request: FeatureRequest, net: SharedNet) -> Any:
    """The net of a request for colour images in float32: the file of a converted one, or a model of OpenVINO."""
    spec = request.specs[0]
    if request.net.is_openvino_file:
        built = net.at("float32")
        assert isinstance(built, OpenVinoNet)
        readouts = [(each.layer, each.pooling_rule) for each in request.specs]
        return built.cut(readouts, spec.preprocessing, COLOUR)
    return EngineFactory(request, "openvino", (), net).converted((*spec.size, COLOUR))


def _outputs(engine: Engine, images: np.ndarray) -> list[np.ndarray]:
    """The features of images at each readout; of fewer images where those of all would take too much memory."""
    done: list[list[np.ndarray]] = []
    pending: deque[Pending] = deque()
    size, bytes_of_all = engine.batch_size, 0
    for start in range(0, len(images), size):
        if bytes_of_all > COMPARED_BYTES and start >= LEAST:
            break
        pending.append(engine.start(images[start : start + size]))
        if len(pending) > engine.ahead:
            done.append(pending.popleft()())
        bytes_of_all = (start + size) * sum(rows[:1].nbytes for rows in done[0]) if done else 0
    done += [wait() for wait in pending]
    return [np.concatenate(parts) for parts in zip(*done, strict=True)]


def _made_note(calibration: Calibration, losses: Iterable[Loss], seconds: float) -> str:
    changes = ", ".join(f"by {loss.relative:.1%} at {loss.layer}" for loss in losses)
    few = (
        f", all there are; {IMAGES} give better ranges" if calibration.count < IMAGES else f" (seed {calibration.seed})"
    )
    return (
        f"int8: the net was calibrated on {calibration.count} of these images{few}; it changes their features {changes}"
        f" (root mean square); it took {seconds:.0f} s"
    )
