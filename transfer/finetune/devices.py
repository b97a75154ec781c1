"""Several devices for the steps of training: Keras's own distribution. Keras is imported where it may have one."""

from __future__ import annotations

from transfer.engines.selection import keras_backend


def share_steps() -> None:
    """Have nets that are built from now on share each batch among all devices of the machine.

    Only Keras's JAX backend distributes; with one device, or another backend, this does nothing.
    """
    if keras_backend() != "jax":
        return
    import keras

    devices = keras.distribution.list_devices()
    if len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
