"""Export of a run as one model, which takes the pixels of images and gives the probabilities of their classes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, StorageFailure, WrongResult, one_line
from feature_cache.files.atomic import remove, temporary_path
from feature_cache.files.disks import disk_failure
from feature_cache.process.keras_import import importing_keras
from feature_cache.version import own_version
from heads import export as head_export
from layertap.results import Comparison, Exported
from layertap.runs import Run, load_run
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.data.datasets import Dataset
from transfer.data.transforms import transform_of
from transfer.export import comparison, formats
from transfer.export.formats import Format
from transfer.request import FeatureRequest, request_for

if TYPE_CHECKING:
    import keras

PURPOSE = "can be exported with its head"  # what layers of Keras are needed for
IMAGES = 32  # most images that two models are compared on
# The largest difference between probabilities: engines differ by less, and no decision depends on so little.
TOLERANCE = 1e-4
# The fields that the parts of joined features must share, so that one net gives them all.
SHARED = (
    "net", "weights", "size", "preprocessing", "fit", "fill", "interpolation", "recipe", "alpha", "pages", "window",
    "transform",
)  # fmt: skip


def export(
    run: Run | str | Path,
    out: str | Path,
    *,
    to: str | None = None,
    data: Source | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a run as one model, once its probabilities are those of the run.

    Parameters
    ----------
    run : Run or path
        A classifier.
    out : path
        The file or folder to write. ``{out}.json`` beside it names the classes.
    to : {'keras', 'onnx', 'openvino', 'saved-model'}, optional
        The format; by default the suffix of `out` decides: ``.keras``, ``.onnx``, ``.xml``, or none for a SavedModel.
    data : Dataset, or anything that `layertap.load_dataset` takes, optional
        Images to compare the model with the run on; random ones by default.
    overwrite : bool
        Replace a model that exists.

    Returns
    -------
    Exported

    Raises
    ------
    InvalidChoice
        When the run is not a classifier that can be one model, the format does not fit, or `out` exists.
    MissingDependency
        When a package that the format needs is not installed.
    WrongResult
        When the probabilities of the model differ from those of the run; then nothing is written.
    StorageFailure
        When the model cannot be written.

    Examples
    --------
    >>> export("runs/photos", "model.onnx").compared.difference  # doctest: +SKIP
    2.4e-07
    """
    out = Path(out)
    name = to or _format_of(out)
    chosen = formats.FORMATS[name]
    targets = _targets(out, name, chosen)
    _check_free(targets, name, overwrite=overwrite)
    formats.require(name)
    run = run if isinstance(run, Run) else load_run(run)
    dataset = None if data is None else load_dataset(data)
    if run.task.name != "classes":
        raise InvalidChoice(
            f"the run {run.folder} is one of {run.task.name}, and only classifiers are exported so far."
        )
    requests, model = build_model(run)
    with _temporary_folder(targets) as folder:
        written = _written(chosen, model, folder / targets[0].name, name)
        compared = compare_with_run(run, requests, written, dataset)
        _require_near(run, chosen, compared)
        description = {
            **_description(run, requests, folder),
            "format": name,
            "settings": chosen.settings,
            "checked_on": f"{compared.images} {compared.source}",
            "difference": compared.difference,
        }
        (folder / targets[-1].name).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        _check_free(targets, name, overwrite=overwrite)  # again: converting a net may take a while
        _move(folder, targets)
    return Exported(tuple(targets), description, compared)


def build_model(run: Run) -> tuple[list[FeatureRequest], keras.Model]:
    """The net and the head of a run as one Keras model.

    Returns
    -------
    requests : list of FeatureRequest
        What the head reads, one for each part of the features that stand side by side.
    model : keras.Model
        From pixels, uint8 of shape (n, height, width, 3), to probabilities of shape (n, n_classes).

    Raises
    ------
    InvalidChoice
        When they cannot be one model.
    DamagedFile
        When the head does not fit the net.
    """
    requests = _requests(run)
    for request in requests:
        request.net.require_keras(PURPOSE)
    layers = head_export.as_layers(run.head)  # before the net is built, which takes time
    whole = replace(requests[0], layers=tuple(layer for request in requests for layer in request.layers))
    backbone = whole.build_keras(PURPOSE)
    with importing_keras():
        from transfer.export.model import fuse, pixels_to_features  # heavy: it imports Keras

    readouts = [(request.specs[0].layer, request.specs[0].pooling_rule) for request in requests]
    net = pixels_to_features(backbone, readouts, run.spec.preprocessing)
    if getattr(run.head, "n_features_in_", net.output.shape[-1]) != net.output.shape[-1]:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder_name}; train it again.")
    return requests, fuse(net, layers)


def compare_with_run(
    run: Run, requests: list[FeatureRequest], predict: formats.Predict, dataset: Dataset | None
) -> Comparison:
    """Compare the probabilities of a model with those of its run.

    Parameters
    ----------
    requests : list of FeatureRequest
        What the head of the run reads (see `build_model`).
    predict : callable
        From pixels, uint8 of shape (n, height, width, 3), to the probabilities of the model.
    dataset : Dataset, optional
        The images to compare them on, of which at most `IMAGES` are taken; random ones by default.

    Returns
    -------
    Comparison
    """
    if dataset is None:
        source, images = "random images", comparison.random_images(IMAGES, run.spec.size)
    else:
        source = f"images of {dataset.name}"
        images = dataset.select(comparison.evenly_spaced(len(dataset), IMAGES))
    pixels = comparison.readable_pixels(images, run.spec)
    expected = run.head.predict_proba(comparison.compute_features(pixels, requests))
    probabilities = comparison.predict_in_batches(predict, comparison.as_rgb(pixels))
    return Comparison(len(pixels), source, comparison.largest_difference(probabilities, expected))


def _format_of(out: Path) -> str:
    """The format that the suffix of a path stands for."""
    for name, known in formats.FORMATS.items():
        if out.suffix.lower() == known.suffix:
            return name
    raise InvalidChoice(
        f"the suffix of {out} stands for no format; name one by `to`, or choose an `out` that ends in "
        f"{', '.join(known.suffix for known in formats.FORMATS.values() if known.suffix)}."
    )


def _targets(out: Path, name: str, chosen: Format) -> list[Path]:
    """The paths to write: the model first, then the files that belong to it, and last the description."""
    if chosen.suffix and out.suffix.lower() != chosen.suffix:
        raise InvalidChoice(f"`to='{name}'` writes a {chosen.suffix} file; received `out='{out}'`.")
    return [out, *(out.with_suffix(suffix) for suffix in chosen.companions), out.with_name(f"{out.name}.json")]


def _check_free(targets: list[Path], name: str, *, overwrite: bool) -> None:
    """Raise InvalidChoice when a target exists, unless it is of the same kind and may be replaced."""
    for target in targets:
        if not os.path.lexists(target):
            continue
        if not overwrite:
            raise InvalidChoice(f"{target} exists; choose another `out`, or replace it with `overwrite=True`.")
        is_folder = name == "saved-model" and target == targets[0]
        replaceable = target.is_dir() and ((target / "saved_model.pb").is_file() or not any(target.iterdir()))
        if is_folder != target.is_dir() or (is_folder and not replaceable):
            raise InvalidChoice(f"{target} is no such model, and is not replaced; choose another `out`.")


def _requests(run: Run) -> list[FeatureRequest]:
    """The features that the head of a run reads, for each part of those that stand side by side."""
    name, specs = run.folder, [spec for spec, _ in run.parts]
    for field in SHARED:
        if any(getattr(spec, field) != getattr(specs[0], field) for spec in specs):
            raise InvalidChoice(
                f"the run {name} joins features that differ in their {field}; one model can be made of several "
                "readouts of one net, at one size."
            )
    if any(spec.precision != "float32" for spec in specs):
        raise InvalidChoice(
            f"the run {name} computes in less than float32, which is not exported; train a head on features in float32."
        )
    if any(spec.coding is not None for spec in specs):
        raise InvalidChoice(
            f"the run {name} reads a shrunk copy of features, which is not exported; train on the full features."
        )
    if run.views.average:
        raise InvalidChoice(
            f"the run {name} predicts by the mean over views, which is not exported; train it without averaging."
        )
    return [request_for(spec, net) for spec, net in zip(specs, run.nets, strict=True)]


def _written(chosen: Format, model: keras.Model, path: Path, name: str) -> formats.Predict:
    """Write the model, and read it back: what the file predicts is compared, not the model in memory."""
    try:
        chosen.write(model, path)
        return chosen.read(path)
    except (LayertapError, OSError, MemoryError):
        raise
    except Exception as error:  # converters raise many types for an operation that they do not know
        if full := disk_failure(error, path.parent):
            raise OSError(0, full) from error
        raise InvalidChoice(f"the net cannot be converted to {name} ({one_line(error)}); use `to='keras'`.") from error


def _require_near(run: Run, chosen: Format, compared: Comparison) -> None:
    """Raise WrongResult when the probabilities of a model are too far from those of its run."""
    if compared.difference <= TOLERANCE:
        return
    advice = f" {chosen.advice}." if chosen.advice else ""
    raise WrongResult(
        f"the exported model gives other probabilities than the run {run.folder}: they differ by up to "
        f"{compared.difference:.2g}, and may by {TOLERANCE:g}, on {compared.images} {compared.source}; nothing was "
        f"written.{advice}"
    )


def _description(run: Run, requests: list[FeatureRequest], folder: Path) -> dict[str, Any]:
    """What whoever uses the model has to know; `folder` holds its files."""
    specs, transform = [request.specs[0] for request in requests], transform_of(run.spec)
    parts = [{"spec": json.loads(spec.to_json()), "digest": spec.digest} for spec in specs]
    return {
        "classes": run.head.classes_.tolist(),
        "size": list(run.spec.size),
        "channels": 3,
        "fit": run.spec.fit,
        **({"fill": run.spec.fill} if run.spec.fit == "pad" else {}),
        "interpolation": run.spec.interpolation,
        **(parts[0] if len(parts) == 1 else {"joined": parts}),
        **({} if transform is None else {"transform": str(transform)}),
        "head": run.config.head.name,
        "layertap": own_version(),
        "sha256": {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    }


@contextlib.contextmanager
def _temporary_folder(targets: list[Path]) -> Iterator[Path]:
    """A folder beside the targets, to fill; it is removed at the end."""
    out = targets[0].absolute()
    folder = temporary_path(out)
    try:
        folder.mkdir(parents=True)
        yield folder
    except LayertapError:
        raise
    except OSError as error:
        raise StorageFailure(f"cannot write {out}: {error.strerror or error}.") from error
    finally:
        remove(folder)


def _move(folder: Path, targets: list[Path]) -> None:
    """Move what was written to its place, the model last: while a model is there, its other files belong to it."""
    old = folder / "old"
    if os.path.lexists(targets[0]):
        targets[0].rename(old)
    try:
        for target in reversed(targets):
            (folder / target.name).replace(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(targets[0])
        raise
