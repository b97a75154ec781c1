"""The state of Keras in which nets are built: they do not depend on what a program did before. It imports Keras."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import keras
from keras.src.backend.common import global_state


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
def fresh_names() -> Iterator[None]:
    """Name layers as in a new process: a layer's name must not depend on what was built before."""
    before = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator, from which Keras's initialisers take their seeds, and restore it after."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
