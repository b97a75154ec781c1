"""What a file of a net says of itself, read without Keras and before Keras is let at it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, InvalidChoice, LayertapError, MissingDependency, UnsafeFile
from feature_cache.files.weights_file import require_bounded
from feature_cache.process.trusted import is_trusted, trusted_modules
from transfer.nets.files import hdf5
from transfer.nets.files.keras2 import to_keras3, with_modules
from transfer.nets.files.kinds import kind_of
from transfer.nets.files.policies import computes_in_half, in_float32

LARGEST_CONFIG = 64 * 2**20  # bytes
# Layers of Keras that exist to run code or load further files.
_CODE_LAYERS = {"Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "__lambda__"}
# Layers whose outputs are maps where their inputs are, or of shape (d,) for one image.
_OF_MAPS = {
    *("Activation", "ActivityRegularization", "Add", "Average", "AveragePooling2D", "BatchNormalization", "CenterCrop"),
    *("Concatenate", "Conv2D", "Conv2DTranspose", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "ELU"),
    *("Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    *(
        "GroupNormalization",
        "Identity",
        "InputLayer",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling2D",
        "Maximum",
        "Minimum",
        "Multiply",
    ),
    *("Normalization", "PReLU", "ReLU", "Rescaling", "Resizing", "SeparableConv2D", "Softmax", "SpatialDropout2D"),
    *("Subtract", "UnitNormalization", "UpSampling2D", "ZeroPadding2D"),
}
_OWN_MODULES = ("keras", "tf_keras", "builtins")
HUB = "keras_hub"  # whose layers are taken where it is installed, since the user has installed it
_DAMAGED = (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, RuntimeError, RecursionError, zlib.error)


@dataclass(frozen=True)
class NetFile:
    """A file that holds a net, in which nothing was found that needs code but Keras's own.

    Attributes
    ----------
    file : Path
    config : dict
        Its architecture, as the file has it.
    version : str
        Of the Keras that wrote it; empty where the file does not say it.
    is_hdf5 : bool
        Whether it is an HDF5 file; otherwise it is a ZIP archive, as Keras 3 writes.
    """

    file: Path
    config: dict[str, Any]
    version: str
    is_hdf5: bool

    @property
    def is_of_keras2(self) -> bool:
        return self.version.split(".")[0] in ("1", "2")

    @property
    def computes_in_half(self) -> bool:
        """Whether layers compute in 16 bits, by the file; Layertap computes them in float32."""
        return computes_in_half(self.config)

    @property
    def is_plain(self) -> bool:
        """Whether Keras 3 loads it as it is, and computes it in float32 or better."""
        return not (self.is_hdf5 or self.is_of_keras2 or self.computes_in_half)

    def config_to_build(self) -> dict[str, Any]:
        """The architecture for Keras 3, in float32 where the file says 16 bits.

        Raises
        ------
        BadData
            When Keras 2 wrote something that Keras 3 has not.
        """
        config = self.config
        if self.is_hdf5 and not self.is_of_keras2:
            config = with_modules(config)
        elif self.is_of_keras2:
            try:
                config = to_keras3(config)
            except BadData as error:
                raise BadData(
                    f"{self.file} was written by Keras {self.version} and holds {error}. Rebuild that part from "
                    "layers of Keras 3, and save the net with model.save('name.keras')."
                ) from error
        return {**in_float32(config), "compile_config": None}


def read_net_file(file: Path) -> NetFile:
    """What a ``.keras`` or ``.h5`` file holds, once it is known to need no code but Keras's own.

    Raises
    ------
    InvalidChoice
        When it is a file of another kind; the message says which, and what to do.
    BadData
        When it is damaged.
    UnsafeFile
        When it holds a lambda, a layer or function from elsewhere, or refers to other files.
    """
    try:
        status = file.stat()
        return _read(file, status.st_size, status.st_mtime_ns, trusted_modules())
    except OSError as error:
        if isinstance(error, LayertapError):
            raise
        raise BadData(f"{file} cannot be read ({error.strerror or error}).") from error


@lru_cache(maxsize=16)
def _read(file: Path, size: int, mtime: int, trusted: tuple[str, ...]) -> NetFile:
    try:
        if kind_of(file) == "HDF5":
            config, version = hdf5.read_net(file)
            if config is None:
                raise InvalidChoice(_without_net(file))
            found = NetFile(file, config, version or "2", is_hdf5=True)
        else:
            found = _read_archive(file, size)
            if file.suffix != ".keras":  # Keras goes by the name, and by small letters
                raise InvalidChoice(f"{file} is a .keras file by its content; call it {file.stem}.keras.")
        refuse_code(found.config, file)
    except LayertapError:
        raise
    except _DAMAGED as error:
        raise BadData(_not_a_net(file)) from error
    return found


def read_config(file: Path) -> dict[str, Any]:
    """The architecture in a file of a net, as `read_net_file` finds it."""
    return copy.deepcopy(read_net_file(file).config)


def _read_archive(file: Path, size: int) -> NetFile:
    with zipfile.ZipFile(file) as archive:
        require_bounded(archive, file, size)
        if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
            raise ValueError("config.json is too large")
        config = json.loads(archive.read("config.json"))
        metadata = {}
        if "metadata.json" in archive.namelist() and archive.getinfo("metadata.json").file_size < LARGEST_CONFIG:
            metadata = json.loads(archive.read("metadata.json"))
    if not isinstance(config, dict):
        raise ValueError("config.json is not an object")
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return NetFile(file, config, version if isinstance(version, str) else "", is_hdf5=False)


def _without_net(file: Path) -> str:
    if hdf5.holds_weights(file):
        return (
            f"{file} holds weights without the net that they belong to. Give the net by its name, and this file as its "
            "weights, `net=NAME` and `weights=FILE`; or save the whole net with model.save('name.keras')."
        )
    return f"{file} is an HDF5 file that holds no net; save one with model.save('name.keras')."


def _not_a_net(file: Path) -> str:
    kind, archive = kind_of(file), file.suffix.lower() == ".keras"
    if kind == "ZIP" and zipfile.is_zipfile(file):
        return f"{file} is an archive that holds no net: save the net with model.save('name.keras') in Keras 3."
    if kind in ("ZIP", "HDF5"):
        return (
            f"{file} is damaged or cut short, or holds no net: save the net with model.save('name.keras') in Keras 3."
        )
    expected = ("a .keras file" if archive else f"an {file.suffix} file of a net") + (f" but {kind}" if kind else "")
    return f"{file} is not {expected}: save the net with model.save('name.keras') in Keras 3."


def input_shape(config: dict[str, Any]) -> tuple[int | None, ...] | None:
    """The shape of one input that `config` describes, without its batch; None where it describes none.

    Sides that are not fixed are None.
    """
    layers = _at(config, "config", "layers") or _at(config, "config")
    first = _at(layers, 0, "config")
    image = _at(config, "config", "image_shape")  # of a backbone of KerasHub
    sides = _at(config, "config", "image_size")  # of the image encoders of PaliGemma and BLIP-2
    sides = [sides] * 2 if type(sides) is int else sides
    is_of_hub = isinstance(sides, list) and str(config.get("module")).partition(".")[0] == HUB
    for shape in (
        [None, *image] if isinstance(image, list) else None,
        [None, *sides, 3] if is_of_hub else None,
        _at(config, "build_config", "input_shape"),
        _at(first, "batch_shape"),
        _at(first, "batch_input_shape"),
        _at(config, "config", "build_input_shape"),
    ):
        if isinstance(shape, list) and shape and all(side is None or type(side) is int for side in shape):
            return tuple(shape[1:])
    return None


def may_have_tokens(config: dict[str, Any]) -> bool:
    """Whether a layer that `config` describes may have an output of shape (tokens, d) for one image."""
    layers = _at(config, "config", "layers")
    if isinstance(layers, list):
        return any(may_have_tokens(layer) for layer in layers if isinstance(layer, dict))
    return config.get("class_name") not in _OF_MAPS


def _at(part: Any, *path: str | int) -> Any:
    """What is in nested dicts and lists at `path`, or None where they are not as expected."""
    for step in path:
        try:
            part = part[step]
        except (KeyError, IndexError, TypeError):
            return None
    return part


def needs_code(file: Path, part: str) -> UnsafeFile:
    """The error for a net of which `part` is not Keras's own."""
    return UnsafeFile(
        f"{file} needs code of its own ({part}), and Layertap runs no code from a model file. Rebuild that part from "
        "Keras's own layers; or, if it is a layer in a module that you trust, name that module in $LAYERTAP_TRUST."
    )


def foreign_parts(config: Any) -> set[tuple[str, str]]:
    """The classes of KerasHub, and of modules that the user trusts, in a configuration, as (module, name)."""
    if isinstance(config, list):
        return set().union(*map(foreign_parts, config))
    if not isinstance(config, dict):
        return set()
    own = {(config["module"], config["class_name"])} if _is_allowed(config) else set()
    return own.union(*map(foreign_parts, config.values()))


def _is_allowed(config: dict[str, Any]) -> bool:
    name, module = config.get("class_name"), config.get("module")
    if not isinstance(name, str) or not isinstance(module, str) or not name.isidentifier() or name in _CODE_LAYERS:
        return False
    if module.split(".")[0] == HUB:
        return config.get("registered_name") in (None, name, f"{HUB}>{name}")
    return is_trusted(module)


def digest_of_trusted(config: Any) -> str:
    """The start of the digest of the trusted modules whose classes a net has; empty where it has none.

    The file does not hold their code, and with other code the net computes something else.
    """
    total = hashlib.sha256()
    modules = sorted({module for module, _ in foreign_parts(config) if module.split(".")[0] != HUB})
    for module in modules:
        with contextlib.suppress(ImportError, ValueError, OSError):  # loading the net says what is wrong
            found = importlib.util.find_spec(module)
            total.update(Path(found.origin if found and found.origin else "").read_bytes())
    return total.hexdigest()[:8] if modules else ""


def refuse_code(config: Any, file: Path) -> None:
    """Raise UnsafeFile where a configuration needs other code than Keras's, KerasHub's, or of a trusted module.

    Raises
    ------
    MissingDependency
        When it needs KerasHub, which is not installed.
    """
    if isinstance(config, list):
        for part in config:
            refuse_code(part, file)
    elif isinstance(config, dict):
        name = config.get("class_name")
        module = config.get("module")
        if _is_allowed(config):
            if str(module).split(".")[0] == HUB:
                require_hub(f"{file} holds layers of KerasHub ({name})")
        elif isinstance(name, str):
            foreign = module is not None and str(module).split(".")[0] not in _OWN_MODULES
            registered = config.get("registered_name") not in (None, name) or ">" in name
            if foreign or registered or name.rpartition(".")[2] in _CODE_LAYERS:
                raise needs_code(file, f"{name}{f' of {module}' if foreign else ''}")
        for part in config.values():
            refuse_code(part, file)


def require_hub(reason: str) -> None:
    """Raise MissingDependency where KerasHub is not installed; it is not imported."""
    if importlib.util.find_spec(HUB) is None:
        raise MissingDependency(f"{reason}, which is not installed: pip install 'layertap[hub]'")
