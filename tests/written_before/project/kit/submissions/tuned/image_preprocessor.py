"""Every image becomes a uint8 array of shape (height, width, 3), resized as Layertap does."""

from transfer.ramp.pixels import fitted

SIZE = (16, 16)  # height and width


def transform(x):
    return fitted(x, SIZE)
