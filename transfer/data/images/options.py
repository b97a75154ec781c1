"""What a user may choose about how stored values become pixels, beside size, fit and interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from feature_cache.errors import unknown
from feature_cache.spec import ALPHAS, PAGES, window_limits

BACKGROUND = {"white": 255, "black": 0}  # the level of what transparency is laid over, by `Decoding.alpha`


@dataclass(frozen=True)
class Decoding:
    """How stored values become 8 bits and one or three channels.

    Parameters
    ----------
    alpha : {'white', 'black', 'ignore'}
        What transparency is laid over; ``ignore`` takes a fourth band for no transparency, and drops it.
    pages : {'first', 'channels'}
        Whether the first page of a file is the image, or its pages are the channels of one image.
    window : str, optional
        The values that become black and white in images of more than 8 bits: ``0,4095``, or ``percentiles`` for the
        1st and the 99th percentile of each image. By default the full range of the stored integers.

    Raises
    ------
    InvalidChoice
        For other values.
    """

    alpha: str = "white"
    pages: str = "first"
    window: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (("alpha", self.alpha, ALPHAS), ("pages", self.pages, PAGES)):
            if value not in allowed:
                raise unknown(f"there is no {name}", value, allowed)
        _ = self.limits

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values of black and white where the window names them."""
        return window_limits(self.window)


DEFAULT = Decoding()


class DecodingFields(Protocol):
    """What a `FeatureRequest` and a `FeatureSpec` have in common: all that shapes pixels but the size."""

    @property
    def alpha(self) -> str: ...
    @property
    def pages(self) -> str: ...
    @property
    def window(self) -> str | None: ...


def decoding_of(choices: DecodingFields) -> Decoding:
    """The part of a feature spec, or of a request, that says how images are decoded."""
    return Decoding(choices.alpha, choices.pages, choices.window)
