"""`layertap.extract`: the features of a data set at layers of a net, computed where the cache lacks them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice, MissingFeatures
from layertap.progress import ProgressBar, progress_bars
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.data.augment import Augmentation
from transfer.data.copies.shards import require_shard, shard_numbers
from transfer.data.datasets import Dataset
from transfer.data.remote.parts import has_parts
from transfer.data.transforms import named
from transfer.extraction import extract as extraction
from transfer.extraction import multi_device
from transfer.extraction.feature_set import FeatureSet
from transfer.extraction.lookup import find_missing, stored_features
from transfer.extraction.on_ray import extract as on_ray
from transfer.extraction.report import Report
from transfer.nets.catalogue import NETS, Net
from transfer.nets.files.kinds import not_taken
from transfer.quantisation.finding import INT8, found
from transfer.quantisation.settling import Settled, settle
from transfer.request import FeatureRequest, SharedNet

if TYPE_CHECKING:
    from layertap.runs import Run

# Is told, before features are extracted, by what request, of how many images, and how many there are; it may raise.
BeforeExtraction = Callable[[FeatureRequest, int, int], None]


def extract(
    data: Source,
    net: Net | Run | str | os.PathLike[str] = "glyphnet",
    *,
    layers: str | int | Sequence[str | int] = (),
    pool: str | None = None,
    prefix_tokens: int | None = None,
    size: int | tuple[int, int] | None = None,
    fit: str | None = None,
    fill: str | None = None,
    interpolation: str | None = None,
    alpha: str = "white",
    pages: str = "first",
    window: str | tuple[float, float] | None = None,
    transform: str | os.PathLike[str] | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    dtype: str = "float32",
    views: int = 1,
    augment: str | None = None,
    seed: int = 0,
    weights: str | os.PathLike[str] | None = None,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    engine: str = "auto",
    devices: int = 1,
    shard: tuple[int, int] | None = None,
    ray: bool | str | None = None,
    compress: bool = False,
    requantise: bool = False,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> FeatureSet:
    """The features of images at layers of a pretrained net; only what the cache lacks is computed.

    Parameters
    ----------
    data : Dataset, str, path or sequence of paths
        The images: a data set, or anything that `layertap.load_dataset` takes.
    net : Net, str, path or Run
        One of ``layertap nets``, ``hub:PRESET`` for a preset of KerasHub, the path of a file that holds a net
        (``.keras``, ``.h5``, ``.onnx``, ``.tflite`` or ``.xml``), a function of yours that returns a Keras model
        (``FILE.py:make_net`` or ``module:function``, which is called), or a run of `layertap.fine_tune`.
    layers : str, int, or sequence of them
        Names or indices of layers; by default the net's readout.
    pool : {'avg', 'max', 'flatten', 'none', 'cls', 'cls+avg'}, optional
        The reduction of the spatial axes, or of the tokens of a vision transformer; by default the customary one of
        the net. ``cls`` is the class token, ``avg`` and ``max`` are of the patches alone, and ``none`` is the map.
    prefix_tokens : int, optional
        How many tokens stand before those of the patches: a class token, registers. By default what the net tells.
    size : int or (height, width), optional
        The size of the net's input in pixels; by default the net's own.
    fit : {'stretch', 'crop', 'pad'}, optional
        How images of another shape are fitted to `size`; by default ``stretch``, or what a preset of KerasHub says.
    fill : {'gray', 'black'}, optional
        What ``pad`` fills the rest with: mid gray, which is the default, or black, as presets of KerasHub do.
    interpolation : {'bilinear', 'bicubic', 'lanczos', 'nearest'}, optional
        How images are resized; by default ``bilinear``, or what a preset of KerasHub says.
    alpha : {'white', 'black', 'ignore'}
        The background of transparent pixels; ``ignore`` drops a fourth band that is no transparency.
    pages : {'first', 'channels'}
        Whether the first page of a file is the image, or its pages are the channels of one image.
    window : (low, high) or str, optional
        The values that become black and white in images of more than 8 bits, or ``"percentiles"``: the 1st and 99th
        of each image. By default the full range of their integers.
    transform : str or path, optional
        A function of yours that changes each image before it is fitted to `size`: ``FILE.py``, whose function is
        called ``transform``, or ``FILE.py:FUNCTION``, which is run. It gets uint8 of shape (height, width, 3), RGB, and
        returns uint8 of that form, or of shape (height, width), of any height and width.
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'}, optional
        The scaling of pixels that the net expects; by default the net's own, which a file tells by its layers. Where
        they do not tell it, ``none`` (0 to 255) is assumed, with a warning.
    precision : {'float32', 'bfloat16', 'float16', 'int8'}
        The precision of the computation. For ``int8``, which is for CPUs, the net is quantised on 300 of the images,
        or the quantised net is used that the cache has for these features; the report says what it changes.
    dtype : {'float32', 'float16'}
        The type that features are stored in.
    views : int
        The number of views of each image; the first is the plain image, and the others are augmented.
    augment : str, optional
        How the other views differ: ``flip,rotate=15,shift=0.1``, for instance (see `Augmentation`).
    seed : int
        The seed of random weights and of views.
    weights : {'imagenet', 'none'} or path, optional
        The weights of the net: by default ``imagenet``, or the net's own; ``none`` are random ones, by `seed`.
    cache : FeatureCache or path, optional
        The folder in which features are stored, or a URL such as ``s3://bucket/features``; by default
        ``$LAYERTAP_CACHE``, or ``./features``.
    batch_size : int, optional
        The number of images that are computed together; by default chosen for the engine and the size. It does not
        change the features.
    engine : {'auto', 'keras', 'openvino'}
        The engine that computes the features; by default the fastest one that is right for the net and the machine.
    devices : int
        The number of GPUs, or of groups of cores, that share the work, each with a process of its own.
    shard : (int, int), optional
        Compute one part of the images alone: part ``shard[0]``, counted from 0, of ``shard[1]``. The parts are about
        equal and depend on the images alone, so that each machine of many computes one into the same cache.
    ray : bool or str, optional
        Have the workers of a Ray cluster compute: ``HOST:PORT`` is the address of its head, and True stands for the one
        of ``$RAY_ADDRESS``, or the one that runs on this machine, or a new one on it.
    compress : bool
        Whether new features are compressed.
    requantise : bool
        Whether the net for ``int8`` is quantised anew on these images, though the cache has one.
    on_error : {'fail', 'skip'}
        Whether an unreadable image is an error, after which what was computed is kept, or is left out.
    progress : bool or callable
        Whether a progress bar is shown, or a function that shows one (see `layertap.progress.progress_bars`).

    Returns
    -------
    FeatureSet
        A mapping from the name of each layer to a lazy array, of float32, with a row for each view of each image. Its
        `dataset` has the images that were not skipped, in the order of the rows, and its `report` says what was done.
        With `shard` they are those of that part.

    Raises
    ------
    BadImage
        If an image is unreadable, unless such images are skipped.
    LayertapError
        When the net, a layer or the data set cannot be loaded, a parameter has a value that is not allowed, or the
        cache cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import layertap as lt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     features = lt.extract("digits", "glyphnet", layers=["block4_pool"], cache=folder, progress=False)
    ...     first = features["block4_pool"][:2]
    >>> features["block4_pool"].shape, first.shape
    ((1797, 256), (2, 256))
    """
    request = FeatureRequest(
        as_net(net, weights=weights, preprocessing=preprocessing, seed=seed),
        tuple(str(layer) for layer in ([layers] if isinstance(layers, str | int) else layers)),
        pool,
        (size, size) if isinstance(size, int) else size,
        fit or "",
        interpolation or "",
        precision,
        dtype,
        augmentation=augmentation_key(augment, views, seed),
        views=views,
        alpha=alpha,
        pages=pages,
        window=window_text(window),
        transform=None if transform is None else named(transform),
        prefix_tokens="auto" if prefix_tokens is None else prefix_tokens,
        fill=fill or "",
    )
    work: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "devices": devices, "compress": compress}
    work |= {"requantise": requantise, "ray": ray}
    dataset, store = load_dataset(data), as_cache(cache)
    if shard is not None:
        dataset = shard_of(dataset, shard, request, store, requantise=requantise)
    features = extract_features(dataset, request, store, on_error=on_error, progress=progress, **work)
    for text in features.report.warnings if features.report else ():
        warnings.warn(text, stacklevel=2)
    return features


def shard_of(
    dataset: Dataset, shard: tuple[int, int], request: FeatureRequest, cache: FeatureCache, *, requantise: bool = False
) -> Dataset:
    """The images of one part of a data set (see `transfer.data.copies.shards`).

    Parameters
    ----------
    shard : (int, int)
        The number of the part, from 0, and how many parts there are.
    request : FeatureRequest
        The features that are to be computed of them.
    requantise : bool
        See `extract`.

    Raises
    ------
    InvalidChoice
        When there is no such part, or each part would quantise a net of its own for ``int8``.
    """
    require_shard(shard)
    number, count = shard
    part = dataset.select(shard_numbers(dataset, count, cache.memo) == number)
    if request.precision == INT8:
        known, (resolved, _) = part.identify(cache), request.resolve()
        if requantise or any(spec.calibration is None for spec in found(resolved, cache, known).specs):
            raise InvalidChoice(
                "each `shard` would quantise a net of its own for int8, and their features would differ; extract some "
                "images without `shard` first, whose net all parts then use."
            )
        return known
    return part


def extract_features(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    devices: int = 1,
    ray: bool | str | None = None,
    compress: bool = False,
    requantise: bool = False,
    on_error: str = "fail",
    progress: bool | ProgressBar = False,
) -> FeatureSet:
    """The features of a request, once what the cache lacks has been computed (see `extract` for the parameters)."""
    net, in_parts = None, devices == 1 and has_parts(dataset)
    known = dataset if in_parts else dataset.identify(cache)
    if devices == 1 and not ray:  # otherwise Keras is left to the processes that compute
        request, backbone = request.resolve()
        net = SharedNet(request, backbone)
    settled = settled_request(known, request, cache, engine=engine, requantise=requantise, on_error=on_error, net=net)
    request = settled.request
    options: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "devices": devices, "compress": compress}
    options["ray"] = ray
    report = compute_missing(known, request, cache, on_error=on_error, progress=progress, net=net, **options)
    report = report.with_remarks(settled.notes, settled.warnings)
    return replace(stored_features(known, request, cache, on_error=on_error), report=report)


def cache_for(
    features: FeatureSet | FeatureRequest | None, cache: FeatureCache | str | os.PathLike[str] | None
) -> FeatureCache:
    """The cache that a workflow uses: by default that of the features, where they come from one."""
    return features.cache if cache is None and isinstance(features, FeatureSet) else as_cache(cache)


def stored_or_extracted(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    before: BeforeExtraction | None = None,
    ray: bool | str | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = False,
) -> FeatureSet:
    """The features of a request for those who train on them: extracted where the cache lacks some.

    Where it lacks none, nothing is imported that computes features.

    Parameters
    ----------
    before : callable, optional
        See `BeforeExtraction`.
    ray, on_error, progress
        See `extract`.

    Raises
    ------
    BadImage
        If an image is unreadable, unless such images are skipped.
    LayertapError
        When features cannot be computed or stored, or `before` raises it.
    """
    known, (request, backbone) = dataset.identify(cache), request.resolve()
    with contextlib.suppress(MissingFeatures):
        return stored_features(known, request, cache, on_error=on_error)
    if before is not None:
        missing = find_missing(known, request, cache, count_fillable=True)
        if images := len(np.unique(missing.jobs // missing.views)):
            before(request, images, len(known.first_of_each))
    net = SharedNet(request, backbone)
    report = compute_missing(known, request, cache, ray=ray, on_error=on_error, progress=progress, net=net)
    return replace(stored_features(known, request, cache, on_error=on_error), report=report)


def compute_missing(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    devices: int = 1,
    ray: bool | str | None = None,
    progress: bool | ProgressBar = False,
    net: SharedNet | None = None,
    requantise: bool = False,
    **options: Any,
) -> Report:
    """Compute what the cache lacks of a request, on one device or several, and say what was done.

    Parameters
    ----------
    devices, ray, progress
        See `extract`.
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too.
    requantise : bool
        See `extract`.
    options
        Those of `transfer.extraction.extract.extract`.
    """
    address = on_ray.address_of(ray)
    if address is not None and devices > 1:
        raise InvalidChoice("`devices` divides the work on this machine, and `ray` on those of a cluster; give one.")
    chosen = multi_device.devices(devices)
    engine, on_error = options.get("engine", "auto"), options.get("on_error", "fail")
    settled = settled_request(dataset, request, cache, engine=engine, requantise=requantise, on_error=on_error, net=net)
    request = settled.request
    with progress_bars(progress)("images") as show:
        if address is not None:
            report = on_ray.extract_on_ray(address, dataset, request, cache, progress=show, **options)
        elif len(chosen) > 1:
            report = multi_device.extract_on(chosen, dataset, request, cache, progress=show, **options)
        else:
            report = extraction.extract(dataset, request, cache, progress=show, net=net, **options)
    return report.with_remarks(settled.notes, settled.warnings)


def settled_request(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    engine: str,
    requantise: bool,
    on_error: str,
    net: SharedNet | None,
) -> Settled:
    """The request with the nets that compute it in ``int8``, quantised now where the cache has none.

    What rounding changes in features that were compared now is added to the notes: for a linear head, too. A request in
    another precision stays as it is.
    """
    if request.precision != INT8:
        return Settled(request)
    known = dataset.identify(cache)
    settled = settle(known, request, cache, engine=engine, on_error=on_error, anew=requantise, net=net)
    if not settled.losses:
        return settled
    from layertap.workflows.training.rounded_heads import head_notes  # it loads scikit-learn

    return replace(settled, notes=(*settled.notes, *head_notes(known.labels, settled.losses)))


def as_net(
    net: Net | Run | str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    preprocessing: str | None = None,
    seed: int = 0,
) -> Net:
    """The net that a parameter names: a `Net`, a name, the path of a file, or a run of fine-tuning or its folder.

    Parameters
    ----------
    weights : {'imagenet', 'none'} or path, optional
    preprocessing : str, optional
        The scaling of pixels that the net expects.
    seed : int
        The seed of random weights.

    Raises
    ------
    InvalidChoice
        When the net has weights of its own, and others are given.

    Examples
    --------
    >>> as_net("vgg16", weights="none", seed=1)
    Net(name='vgg16', weights='none', seed=1, preprocessing=None)
    """
    if isinstance(net, str | os.PathLike):
        name = os.fspath(net)
        tuned = _net_in(name)
        if tuned is None:
            return Net(name, None if weights is None else os.fspath(weights), seed, preprocessing)
    else:
        tuned = net if isinstance(net, Net) else _net_in_run(net.folder)
    if weights is not None:
        raise InvalidChoice(f"{tuned.name} holds its own weights; leave out `weights`.")
    return replace(tuned, preprocessing=preprocessing or tuned.preprocessing)


def _net_in(name: str) -> Net | None:
    """The net of a run, where `name` is a folder that may be one; None otherwise."""
    if name.lower() in NETS or not Path(name).is_dir() or not_taken(name):
        return None
    return _net_in_run(Path(name))


def _net_in_run(folder: Path | None) -> Net:
    # Here, because it loads scikit-learn, which extraction does not need.
    from layertap.runs import net_of_run

    if folder is None:
        raise InvalidChoice("the run has not been written to a folder, and holds no net; pass `out` when you train it.")
    return net_of_run(folder)


def augmentation_key(augment: str | None, views: int, seed: int) -> str | None:
    """The part of a feature spec that says how views differ; None where there is only the plain one.

    Raises
    ------
    InvalidChoice
        When `augment` is given and there is only the plain view.

    Examples
    --------
    >>> augmentation_key(None, 1, 0) is None
    True
    """
    if augment is None:
        return None
    if views == 1:
        raise InvalidChoice("`augment` says how views differ, and there is only the plain one; add `views`.")
    return Augmentation.parse(augment, seed).key


def window_text(window: str | tuple[float, float] | None) -> str | None:
    """A window as specs have it: whole numbers are written without a fraction, so that equal windows are equal."""
    if window is None or isinstance(window, str):
        return window
    return ",".join(str(int(number)) if number == int(number) else repr(number) for number in window)
