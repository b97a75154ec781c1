"""Building a net with its weights: by name, from a weights file, or from a ``.keras`` file. It imports Keras."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
from keras.src.backend.common import global_state

from feature_cache.errors import BadData, UnsafeFile, WeightsUnavailable
from transfer.keras_file import read_config
from transfer.nets import Net, keras_models_folder
from transfer.seeding import portable_draws


def build(net: Net, size: tuple[int, int], *, top: bool = False) -> keras.Model:
    """The Keras model of `net` for inputs of `size`, with its weights.

    With ``weights="none"`` the weights are those that Keras itself draws, on its TensorFlow backend,
    after ``keras.utils.set_random_seed(net.seed)``; they are the same on every backend.

    Parameters
    ----------
    top : bool
        With the classifier of a ``keras.applications`` net.

    Raises
    ------
    WeightsUnavailable
        When ``imagenet`` weights are not on this machine and cannot be fetched.
    BadData
        When a file is not what it should be, or its weights do not fit the net.
    UnsafeFile
        When a ``.keras`` file cannot be loaded without running code of its own.
    """
    with customary_settings(), _fresh_names(), _seeded(net.seed):
        if net.is_file:
            return _load_file(Path(net.name))
        if net.name.lower() == "glyphnet":
            return _glyphnet(net, size)
        return _application(net, size, top)


def _glyphnet(net: Net, size: tuple[int, int]) -> keras.Model:
    from transfer.glyphnet import net as glyphnet

    if net.has_random_weights:
        with portable_draws():
            return glyphnet.build(size)
    model = glyphnet.build(size)
    assert net.weights_file is not None
    try:
        glyphnet.load_weights(model, net.weights_file)
    except (OSError, KeyError, ValueError) as error:
        raise BadData(f"{net.weights_file} does not hold weights of glyphnet: {first_line(error)}") from error
    return model


def _application(net: Net, size: tuple[int, int], top: bool) -> keras.Model:
    assert net.info is not None
    builder = getattr(keras.applications, net.info.builder)
    shape = (*size, 3)
    if net.has_random_weights:
        with portable_draws():
            return builder(weights=None, include_top=top, input_shape=shape)
    if net.weights_file is None:
        return _fetch(net, lambda: builder(weights="imagenet", include_top=top, input_shape=shape))
    reason = ""
    for with_top in dict.fromkeys((top, True)):  # the file may hold the classifier too
        model = builder(weights=None, include_top=with_top, input_shape=shape)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each layer that does not fit, before the error
                model.load_weights(str(net.weights_file))
        except Exception as error:  # Keras raises many types for a file of another net, or none at all
            reason = reason or first_line(error)
        else:
            return model
    raise BadData(f"{net.weights_file} does not hold weights of {net.name}: {reason}")


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
            f"{keras_models_folder() / name}: put that file there, or give a weights file with --weights FILE, or "
            "use --net glyphnet, whose weights are included."
        ) from error


def _load_file(file: Path) -> keras.Model:
    read_config(file)  # refuses what needs code
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many types for a damaged or unsafe file
        raise UnsafeFile(f"the net {file} cannot be loaded safely: {first_line(error)}") from error
    if not model.built or not (isinstance(model, keras.Sequential) or hasattr(model, "_run_through_graph")):
        raise BadData(f"the net {file} is not a built Functional or Sequential model, so it has no layers to cut at.")
    return model


def first_line(error: Exception) -> str:
    """What `error` says, in one line: its first, and the second where the first ends with a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


@contextlib.contextmanager
def customary_settings() -> Iterator[None]:
    """Build in float32, channels last, whatever the user's keras.json or program has set; restored after."""
    before = keras.config.image_data_format(), keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before[0])
        keras.config.set_floatx(before[1])
        keras.config.set_dtype_policy(before[2])


@contextlib.contextmanager
def _fresh_names() -> Iterator[None]:
    """Name layers as in a new process: a layer's name must not depend on what was built before."""
    before = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator, from which Keras's initialisers take their seeds, and restore it after."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
