"""Presets of KerasHub: where their files are, and which images their nets expect.

A preset is a folder that KerasHub writes and reads: the configuration of a net, its weights, and what makes its pixels.
Neither Keras nor KerasHub is imported, unless files have to be fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, InvalidChoice, WeightsUnavailable, first_line, printable, unknown
from feature_cache.process.keras_import import importing_keras
from feature_cache.spec import affine_text
from transfer.nets.files.keras_file import HUB, LARGEST_CONFIG, refuse_code, require_hub

PREFIX = "hub:"
CONFIG, CONVERTER, WEIGHTS = "config.json", "image_converter.json", "model.weights.h5"
SHARDS = "model.weights.json"  # lists the parts of weights that are more than one file
# What the steps of an image converter are described by; others are not known.
_KNOWN = {
    *("name", "trainable", "dtype", "image_size", "scale", "offset", "interpolation", "antialias", "data_format"),
    *("crop_to_aspect_ratio", "pad_to_aspect_ratio", "bounding_box_format"),
}
# The part that takes images, of nets that take more than an image and have no `vision_encoder`.
_ENCODERS = {"SAMBackbone": "image_encoder", "PARSeqBackbone": "image_encoder", "PaliGemmaBackbone": "vit_encoder"}
_INTERPOLATIONS = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest", "lanczos3": "lanczos"}


@dataclass(frozen=True)
class Pixels:
    """What the image converter of a preset does with an image.

    Attributes
    ----------
    size : (height, width) or None
        That images are resized to.
    preprocessing, fit, interpolation : str
        See `FeatureSpec`.
    """

    size: tuple[int, int] | None
    preprocessing: str
    fit: str
    interpolation: str


@dataclass(frozen=True)
class Preset:
    """The files of a preset.

    Attributes
    ----------
    folder : Path
    config : dict
        The architecture of the net.
    """

    folder: Path
    config: dict[str, Any]

    @property
    def encoder(self) -> str | None:
        """The attribute that holds the part of the net which takes images; None where the whole net does."""
        if name := _ENCODERS.get(self.config["class_name"]):
            return name
        return "vision_encoder" if self._part("vision_encoder") else None

    @property
    def size(self) -> tuple[int, int] | None:
        """The input size of the net; None where it takes any, and images are not resized to one."""
        # The encoder of PaliGemma has no configuration of its own, and that of DepthAnything alone says the shape.
        for options in (self._part(self.encoder), self.config["config"], self._part("image_encoder")):
            shape = options.get(self.shape_argument) or options.get("image_size")
            shape = [shape] * 2 if type(shape) is int else shape
            if isinstance(shape, list) and len(shape) in (2, 3) and all(type(side) is int for side in shape[:2]):
                return shape[0], shape[1]
        return self.pixels.size if self.pixels else None

    def _part(self, name: str | None) -> dict[str, Any]:
        """The configuration of a part of the net, empty where there is none; that of Gemma 3n has another name."""
        part = self.config["config"].get(name)
        part = part.get("config") if isinstance(part, dict) else self.config["config"].get(f"{name}_config")
        return part if isinstance(part, dict) else {}

    @property
    def shape_argument(self) -> str:
        """The argument that says the shape of an image: that of EfficientNet has another name."""
        return "input_shape" if "input_shape" in self.config["config"] else "image_shape"

    @property
    def pixels(self) -> Pixels | None:
        """What its image converter does; None where it has none.

        Raises
        ------
        BadData
            When a step of it is not known.
        """
        file = self.folder / CONVERTER
        return _pixels(file, _read(file)) if file.is_file() else None

    @property
    def files(self) -> list[Path]:
        """The configuration and the weights.

        Raises
        ------
        BadData
            When the weights are not there.
        """
        listed = self.folder / SHARDS
        names = sorted({*_read(listed).get("weight_map", {}).values()}) if listed.is_file() else [WEIGHTS]
        flat = sorted({Path(str(name)).name for part in names for name in (part if isinstance(part, list) else [part])})
        files = [self.folder / name for name in (CONFIG, *flat)]
        for file in files:
            if not file.is_file():
                raise BadData(
                    f"the preset {self.folder} lacks its file {file.name}; copy the whole folder of the preset."
                )
        return files

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what the net computes: its architecture and weights."""
        total = hashlib.sha256()
        for file in self.files:
            status = file.stat()
            total.update(_digest(file, status.st_size, status.st_mtime_ns).encode())
        return total.hexdigest()


def is_preset(name: str) -> bool:
    """Whether a name of a net is that of a preset."""
    return name.startswith(PREFIX)


def open_preset(name: str) -> Preset:
    """The preset that a net is named after, as ``hub:`` and a folder, a name, or an address.

    Raises
    ------
    InvalidChoice
        When there is no such preset.
    BadData
        When it is damaged, or is no net of images.
    UnsafeFile
        When it needs code that is not KerasHub's.
    MissingDependency
        When KerasHub is not installed.
    WeightsUnavailable
        When it can neither be found on this machine nor fetched.
    """
    require_hub(f"{name} is a preset of KerasHub")
    folder = _folder(name.removeprefix(PREFIX))
    file = folder / CONFIG
    if not file.is_file():
        raise InvalidChoice(
            f"{folder} holds no preset of KerasHub: there is no {CONFIG} in it. Give the folder that its "
            "`save_to_preset` wrote."
        )
    status = file.stat()
    return _open(folder, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _open(folder: Path, size: int, mtime: int) -> Preset:
    config = _read(folder / CONFIG)
    if not isinstance(config.get("class_name"), str) or not isinstance(config.get("config"), dict):
        raise BadData(
            f"{folder / CONFIG} is no configuration of KerasHub. Give the folder of a preset that KerasHub wrote: it "
            f"has {CONFIG}, {WEIGHTS} and {CONVERTER}."
        )
    refuse_code(config, folder / CONFIG)
    return Preset(folder, config)


def _folder(text: str) -> Path:
    """Where the files of a preset are; they are fetched where they are not on this machine."""
    if not text:
        raise InvalidChoice(f"{PREFIX} names no preset; list them with: layertap nets --hub.")
    if "://" not in text and (Path(text).is_dir() or os.sep in text):
        if not Path(text).is_dir():
            raise InvalidChoice(
                f"there is no folder {text!r} of a preset; give another path, or bring the folder back there."
            )
        return Path(text)
    return _fetched(text)


@lru_cache(maxsize=16)
def _fetched(preset: str) -> Path:
    known = builtin_presets()
    if "://" not in preset and preset not in known:
        raise unknown("there is no preset of KerasHub", preset, known, "List them with: layertap nets --hub.")
    utils = importlib.import_module(f"{HUB}.src.utils.preset_utils")
    try:
        with _quiet_retries():
            file = Path(utils.get_file(preset, CONFIG))
            for name in (CONVERTER, WEIGHTS, SHARDS):  # some presets have the one, some the other
                utils.check_file_exists(preset, name)
    except Exception as error:  # whatever a network does
        if isinstance(error, FileNotFoundError) and not _is_unreachable(error):
            raise InvalidChoice(f"{preset} is no preset of KerasHub: {first_line(error)}") from error
        address = known.get(preset, {}).get("address", preset)
        raise WeightsUnavailable(
            f"the preset {preset} is not on this machine and cannot be fetched. Fetch {CONFIG}, {WEIGHTS} and "
            f"{CONVERTER} of {address} on a machine with a network, put them in one folder, and give that: "
            f"`net='{PREFIX}FOLDER'`."
        ) from error
    return file.parent


@contextlib.contextmanager
def _quiet_retries() -> Iterator[None]:
    """Hugging Face's client, without two lines of log for each time that it asks again."""
    log = logging.getLogger("huggingface_hub.utils._http")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _is_unreachable(error: BaseException) -> bool:
    """Whether a file that was not found may be there: Hugging Face's client says so of what it could not ask for."""
    return type(error.__cause__).__name__ == "LocalEntryNotFoundError"


def builtin_presets() -> dict[str, dict[str, Any]]:
    """The presets of nets of images that KerasHub knows by name, with what it says of them; nothing is fetched.

    This imports KerasHub.
    """
    require_hub("presets are those of KerasHub")
    hub, presets = import_hub(), {}
    utils = importlib.import_module(f"{HUB}.src.utils.preset_utils")
    for converter in utils.list_subclasses(hub.layers.ImageConverter):
        if converter.backbone_cls is None:
            continue
        for name, preset in utils.builtin_presets(converter.backbone_cls).items():
            about = preset.get("metadata", {})
            presets[name] = {
                "preset": name,
                "backbone": converter.backbone_cls.__name__,
                "parameters": about.get("params"),
                "description": about.get("description", ""),
                "address": preset.get("kaggle_handle", ""),
            }
    return dict(sorted(presets.items(), key=lambda item: (item[1]["backbone"], item[0])))


def import_hub() -> Any:
    """KerasHub, which registers its layers with Keras when it is imported."""
    with importing_keras(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(HUB)


def _pixels(file: Path, converter: dict[str, Any]) -> Pixels:
    options = dict(converter.get("config", {}))
    strange = sorted(options.keys() - _KNOWN)
    interpolation = _INTERPOLATIONS.get(options.get("interpolation", "bilinear"))
    kind = str(converter.get("registered_name") or f"{HUB}>")
    own = kind.partition(">")[0] in (HUB, "keras_nlp")  # its name until 2024
    if strange or interpolation is None or not own:
        what = f"the step {strange[0]!r}" if strange else f"the interpolation {options.get('interpolation')!r}"
        what = what if own else f"the converter {printable(kind)!r}"
        raise BadData(
            f"{file} has {what}, which Layertap does not know: the pixels of this preset cannot be made. Say which "
            "ones it takes with `preprocessing`; then nothing is read from that file."
        )
    size = options.get("image_size")
    scale, offset = (_channels(options.get(name), plain) for name, plain in (("scale", 1.0), ("offset", 0.0)))
    fit = "pad" if options.get("pad_to_aspect_ratio") else "crop" if options.get("crop_to_aspect_ratio") else "stretch"
    sides = (int(size[0]), int(size[1])) if size else None
    return Pixels(sides, affine_text(scale, offset), fit, interpolation)


def _channels(value: Any, plain: float) -> tuple[float, ...]:
    if value is None:
        return (plain,) * 3
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(one) for one in value)


def _read(file: Path) -> dict[str, Any]:
    """The object in a file of JSON."""
    try:
        if file.stat().st_size > LARGEST_CONFIG:
            raise ValueError("it is too large")
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{file} cannot be read ({first_line(error)}); copy the preset again.") from error
    return content


@lru_cache(maxsize=64)
def _digest(file: Path, size: int, mtime: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
