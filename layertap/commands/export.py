"""`layertap export`: a run as one model, from the pixels of images to the probabilities of their classes."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, StorageFailure, WrongResult, one_line
from feature_cache.files.disks import disk_failure
from feature_cache.version import own_version
from layertap.commands.arguments import shared
from layertap.commands.terminal.output import print_json

if TYPE_CHECKING:
    from layertap.runs import Run
    from transfer.export.formats import Format
    from transfer.extraction.request import FeatureRequest

IMAGES = 32  # that the exported model is compared with the run on
# Between probabilities: engines differ by less, and by nothing that would change what is told to people.
TOLERANCE = 1e-4
# What the parts of joined features have to share, so that one net gives them all.
SHARED = ("net", "weights", "size", "preprocessing", "fit", "interpolation", "recipe", "alpha", "pages", "window")


def export(args: argparse.Namespace) -> None:
    from layertap import runs
    from transfer.export import formats

    kind = formats.FORMATS[args.to]
    targets = _targets(Path(args.out), args.to, kind)
    _check_free(targets, args.to, overwrite=args.overwrite)
    formats.check(args.to)
    dataset = shared.optional_dataset(args)
    run = runs.read(Path(args.run), args.head_code)
    if run.task.name != "classes":
        raise InvalidChoice(f"the run {args.run} is one of {run.task.name}, and only classifiers are exported so far.")
    requests, model = model_of(run)

    with _aside(targets) as folder:
        made = folder / targets[0].name
        exported = _written(kind, model, made, args.to)
        source, images, difference = compared(run, requests, exported, dataset)
        if not difference <= TOLERANCE:
            advice = f" {kind.advice}." if kind.advice else ""
            raise WrongResult(
                f"the exported model gives other probabilities than the run {args.run}: they differ by up to "
                f"{difference:.2g}, and may by {TOLERANCE:g}, on {images} {source}; nothing was written.{advice}"
            )
        about = {
            **_about(run, requests, folder),
            "format": args.to,
            "settings": kind.settings,
            "checked_on": f"{images} {source}",
            "difference": difference,
        }
        (folder / targets[-1].name).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        _check_free(targets, args.to, overwrite=args.overwrite)  # again: a net may take a while
        _put(folder, targets)
    if args.json:
        print_json({"files": [str(file) for file in targets], **about})
        return
    height, width = run.spec.size
    print(
        f"{targets[0]}: images of {height} x {width} x 3 pixels to probabilities of {len(about['classes'])} classes.\n"
        f"On {images} {source} they differ by at most {difference:.1g} from those of {args.run}. "
        f"{targets[-1]} names the classes."
    )


def model_of(run: Run) -> tuple[list[FeatureRequest], Any]:
    """What is asked of the net of a run, and the net and the head as one model of Keras.

    Raises
    ------
    InvalidChoice
        When they cannot be one.
    """
    from heads.export import as_layers

    requests = _requests(run)
    layers = as_layers(run.head)  # before the net is built, which takes time
    return requests, _model(run, requests, layers)


def _targets(out: Path, name: str, kind: Format) -> list[Path]:
    """What is written: the model first, then what belongs to it, and last what tells of it."""
    if kind.suffix and out.suffix.lower() != kind.suffix:
        raise InvalidChoice(f"--to {name} writes a {kind.suffix} file; received --out {out}.")
    return [out, *(out.with_suffix(suffix) for suffix in kind.beside), out.with_name(f"{out.name}.json")]


def _check_free(targets: list[Path], name: str, *, overwrite: bool) -> None:
    for target in targets:
        if not os.path.lexists(target):
            continue
        if not overwrite:
            raise InvalidChoice(f"{target} exists; choose another --out, or replace it with --overwrite.")
        folder = name == "saved-model" and target == targets[0]
        whole = target.is_dir() and ((target / "saved_model.pb").is_file() or not any(target.iterdir()))
        if folder != target.is_dir() or (folder and not whole):
            raise InvalidChoice(f"{target} is no such model, and is not replaced; choose another --out.")


def _requests(run: Run) -> list[FeatureRequest]:
    """What is asked of the net, for each part of the features that stand side by side."""
    from transfer.extraction.request import request_for
    from transfer.nets.catalogue import net_from_config

    name, specs = run.folder, [spec for spec, _ in run.parts]
    for field in SHARED:
        if any(getattr(spec, field) != getattr(specs[0], field) for spec in specs):
            raise InvalidChoice(
                f"the run {name} joins features that differ in their {field}; one model can be made of several "
                "readouts of one net, at one size."
            )
    if any(spec.precision != "float32" for spec in specs):
        raise InvalidChoice(f"the run {name} computes in less than float32, which is not exported; use float32.")
    if any(spec.coding is not None for spec in specs):
        raise InvalidChoice(
            f"the run {name} reads a shrunk copy of features, which is not exported; train on the full."
        )
    if run.views.average:
        raise InvalidChoice(
            f"the run {name} predicts by the mean over views, which is not exported; train it without --average-views."
        )
    return [request_for(spec, net_from_config(net, run.folder)) for spec, net in run.parts]


def _model(run: Run, requests: list[FeatureRequest], layers: list[Any]) -> Any:
    """The net and the head as one model of Keras."""
    from feature_cache.process.native_output import native_stderr_silenced

    with native_stderr_silenced():  # TensorFlow greets everyone
        from transfer.export.model import fuse, pixels_to_features
        from transfer.nets.backbone import backbone_for

    readouts = [(request.specs[0].layer, request.specs[0].pooling) for request in requests]
    backbone = backbone_for(requests[0].net, [layer for layer, _ in readouts], run.spec.size)
    net = pixels_to_features(backbone, readouts, run.spec.preprocessing)
    if getattr(run.head, "n_features_in_", net.output.shape[-1]) != net.output.shape[-1]:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder}; train it again.")
    return fuse(net, layers)


def _written(kind: Format, model: Any, made: Path, name: str) -> Any:
    """Write the model, and load it afresh: what runs it."""
    try:
        kind.write(model, made)
        return kind.read(made)
    except (LayertapError, OSError, MemoryError):
        raise
    except Exception as error:  # converters raise many types for an operation that they do not know
        if full := disk_failure(error, made.parent):
            raise OSError(0, full) from error
        reason = one_line(error)
        raise InvalidChoice(f"the net cannot be converted to {name} ({reason}); use --to keras.") from error


def compared(run: Run, requests: list[FeatureRequest], exported: Any, dataset: Any) -> tuple[str, int, float]:
    """Compare the exported model with the run: on what, on how many images, and the largest difference."""
    import numpy as np

    from transfer.export.comparison import features_of, in_colour, pixels_of, random_images, some_images

    chosen = random_images(IMAGES, run.spec.size) if dataset is None else some_images(dataset, IMAGES)
    source = "random images" if dataset is None else f"images of {dataset.name}"
    pixels = pixels_of(chosen, run.spec)
    features = np.concatenate([features_of(pixels, request) for request in requests], axis=1)
    expected = run.head.predict_proba(features)
    images = in_colour(pixels)
    found = np.concatenate([exported(images[start : start + 8]) for start in range(0, len(images), 8)])
    difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else math.inf
    return source, len(images), difference


def _about(run: Run, requests: list[FeatureRequest], folder: Path) -> dict[str, Any]:
    """What travels along with a model."""
    specs = [request.specs[0] for request in requests]
    parts = [{"spec": json.loads(spec.to_json()), "digest": spec.digest} for spec in specs]
    return {
        "classes": run.head.classes_.tolist(),
        "size": list(run.spec.size),
        "channels": 3,
        "fit": run.spec.fit,
        "interpolation": run.spec.interpolation,
        **(parts[0] if len(parts) == 1 else {"joined": parts}),
        "head": run.config["head"]["name"],
        "layertap": own_version(),
        "sha256": {
            str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    }


@contextlib.contextmanager
def _aside(targets: list[Path]) -> Iterator[Path]:
    """A folder beside the targets, to fill; it vanishes at the end."""
    out = targets[0].absolute()
    aside = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.mkdir(parents=True)
        yield aside
    except LayertapError:
        raise
    except OSError as error:
        raise StorageFailure(f"cannot write {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(folder: Path, targets: list[Path]) -> None:
    """Move what was written to its place, the model last: while it is there, all that belongs to it is its own."""
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
