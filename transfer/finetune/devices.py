"""Sharing the steps of training among several devices, by Keras's own distribution."""

from __future__ import annotations

from transfer.engines.selection import keras_backend


def share_steps() -> None:
    """Make the nets that are built from now on share each batch among all devices of the machine.

    Only Keras's JAX backend distributes; with one device, or another backend, this does nothing.
    """
    if keras_backend() != "jax":
        return
    import keras  # heavy, and needed for one backend alone

    devices = keras.distribution.list_devices()
    if len(devices) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
