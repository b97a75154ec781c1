"""A user's choices of how stored values become pixels, in addition to size, fit and interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from feature_cache.errors import unknown
from feature_cache.spec import ALPHAS, PAGES, window_limits

BACKGROUND = {"white": 255, "black": 0}  # the level behind transparent pixels, by `Decoding.alpha`


@dataclass(frozen=True)
class Decoding:
    """How stored values become 8 bits and one or three channels.

    Parameters
    ----------
    alpha : {'white', 'black', 'ignore'}
        The background that transparent pixels are laid over; ``ignore`` drops a fourth band, which is then not taken
        for transparency.
    pages : {'first', 'channels'}
        Whether the first page of a file is the image, or its pages are the channels of one image.
    window : str, optional
        The values that become black and white in images of more than 8 bits: ``0,4095``, or ``percentiles`` for the
        1st and the 99th percentile of each image. By default the full range of the stored integers.

    Raises
    ------
    InvalidChoice
        For other values.

    Examples
    --------
    >>> Decoding(window="0,4095").limits
    (0.0, 4095.0)
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
        """The values of black and white, where the window names them; None otherwise."""
        return window_limits(self.window)


DEFAULT = Decoding()


class DecodingFields(Protocol):
    """The fields of a `FeatureRequest` and a `FeatureSpec` that say how images are decoded."""

    @property
    def alpha(self) -> str: ...
    @property
    def pages(self) -> str: ...
    @property
    def window(self) -> str | None: ...


def decoding_of(fields: DecodingFields) -> Decoding:
    """The part of a feature spec, or of a request, that says how images are decoded."""
    return Decoding(fields.alpha, fields.pages, fields.window)
