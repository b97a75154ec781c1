"""Seeded views of an image: mirrored, rotated, shifted, scaled, lighter or darker."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.errors import DamagedFile, InvalidChoice, unknown

_VERSION = "v1"  # part of the key: raise it with any change that can alter a pixel of a view
_FLAGS = ("flip", "vflip")
# The largest value of each option, and how messages describe its values.
_RANGES = {
    "rotate": (180.0, "a number of degrees from 0 to 180"),
    "shift": (0.5, "a share of the sides from 0 to 0.5"),
    "zoom": (0.9, "a number from 0 to 0.9"),
    "brightness": (1.0, "a number from 0 to 1"),
    "contrast": (1.0, "a number from 0 to 1"),
}
NUMBERS = 8  # that describe a view (see `Augmentation.numbers`)
# a to f, where the point (x, y) of the view shows the point (a x + b y + c, d x + e y + f) of the image; the origin is
# the corner of the image.
_Source = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random changes that make the views of an image, and their limits.

    Views are numbered. View 0 is the image itself; every other view depends on the seed, the image's digest and the
    view's number alone. All random numbers are drawn for every view, used or not, so that adding ``brightness=0.1``
    does not change the geometry of a view.

    Attributes
    ----------
    flip, vflip : bool
        Mirror left to right, and top to bottom, each with probability 1/2.
    rotate : float, 0 to 180
        Rotate about the centre by an angle uniform in [-rotate, rotate], in degrees.
    shift : float, 0 to 0.5
        Move by shares of the height and of the width, each uniform in [-shift, shift].
    zoom : float, 0 to 0.9
        Enlarge about the centre by a factor uniform in [1 - zoom, 1 + zoom].
    brightness, contrast : float, 0 to 1
        Multiply the values, and their distance to their mean over all channels, each by a factor uniform
        in [1 - brightness, 1 + brightness] and [1 - contrast, 1 + contrast].
    seed : int
        0 or more.

    Raises
    ------
    InvalidChoice
        When a value is not a number, or out of its range.

    Examples
    --------
    >>> Augmentation(flip=True, rotate=15).key
    'v1:flip,rotate=15,seed=0'
    """

    flip: bool = False
    vflip: bool = False
    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _RANGES:  # as floats, so that 15 and 15.0 have one key
            object.__setattr__(self, name, _in_range(name, getattr(self, name)))
        if type(self.seed) is not int or self.seed < 0:
            raise InvalidChoice(f"seed is a whole number from 0; received {self.seed!r}.")

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Augmentation:
        """The augmentation of a text such as ``flip,rotate=15,shift=0.1``.

        Raises
        ------
        InvalidChoice
            When `text` describes no augmentation, or one that changes nothing.
        """
        options: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in (*_FLAGS, *_RANGES):
                raise unknown("there is no augmentation", name, (*_FLAGS, *_RANGES))
            if name in options:
                raise InvalidChoice(f"{name} is given twice in {text!r}; give it once.")
            if name in _FLAGS and equals:
                raise InvalidChoice(f"{name} takes no value; received {part.strip()!r}.")
            if name in _RANGES and not value:
                raise InvalidChoice(f"{name} needs {_RANGES[name][1]}; received {part.strip()!r}.")
            options[name] = value or True
        augmentation = cls(**options, seed=seed)
        if augmentation == cls(seed=seed):
            raise InvalidChoice(f"the augmentation {text!r} does nothing; give a value above 0, or no augmentation.")
        return augmentation

    @property
    def key(self) -> str:
        """The canonical text, the same for equal augmentations: ``v1:brightness=0.1,flip,rotate=15,seed=0``."""
        used = {name: value for name, value in dataclasses.asdict(self).items() if value or name == "seed"}
        parts = [name if name in _FLAGS else f"{name}={str(used[name]).removesuffix('.0')}" for name in sorted(used)]
        return f"{_VERSION}:{','.join(parts)}"

    @classmethod
    def from_key(cls, key: str) -> Augmentation:
        """The augmentation with this `key`.

        Raises
        ------
        DamagedFile
            When it is not the key of an augmentation of this version.
        """
        parts = [part.partition("=") for part in key.removeprefix(f"{_VERSION}:").split(",")]
        options: dict[str, Any] = {name: value if equals else True for name, equals, value in parts}
        try:
            augmentation = cls(**{**options, "seed": int(options["seed"])})
            if augmentation.key == key:
                return augmentation
        except (KeyError, TypeError, ValueError):  # the text is not a key
            pass
        raise DamagedFile(f"{key!r} is not the key of an augmentation of this version of Layertap.")

    def __call__(self, pixels: np.ndarray, digest: bytes, view: int) -> np.ndarray:
        """The view of an image that has the number `view`.

        The geometry is one affine transform about the centre, resampled once, bilinearly; views that are only mirrored
        are not resampled. Beyond the image, its border pixels are repeated: reflections would show parts of an object
        twice.

        Parameters
        ----------
        pixels : ndarray of shape (height, width, 1) or (height, width, 3), uint8
            The pixels that a net is given, already of its input size.
        digest : bytes
            The digest that identifies the image.
        view : int

        Returns
        -------
        ndarray of the same shape, uint8, C-contiguous
        """
        if view == 0:
            return np.ascontiguousarray(pixels)
        flip, vflip, source, brightness, contrast = self._sample(digest, view, *pixels.shape[:2])
        pixels = pixels[:: -1 if vflip else 1, :: -1 if flip else 1]
        if self.rotate or self.shift or self.zoom:
            pixels = _move(pixels, source)
        if self.brightness or self.contrast:
            pixels = _relight(pixels, brightness, contrast)
        return np.ascontiguousarray(pixels)

    def numbers(self, digest: bytes, view: int, height: int, width: int) -> np.ndarray:
        """The numbers that describe a view of an image of this size, for `transfer.finetune.augment_layer.Augment`.

        Returns
        -------
        ndarray of shape (8,), float32
            a, b, c, d, e, f, where the point (x, y) of the view shows the point (a x + b y + c, d x + e y + f) of the
            image, in pixels from the centre of the first pixel. Then the factors of brightness and contrast.
        """
        if view == 0:
            return np.array([1, 0, 0, 0, 1, 0, 1, 1], np.float32)
        flip, vflip, source, brightness, contrast = self._sample(digest, view, height, width)
        matrix = np.reshape(source, (2, 3))
        matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5  # from the corner of the first pixel to its centre
        for row, mirrored, side in ((0, flip, width), (1, vflip, height)):
            if mirrored:
                matrix[row] = np.array([0, 0, side - 1]) - matrix[row]
        return np.array([*matrix.reshape(-1), brightness, contrast], np.float32)

    def _sample(self, digest: bytes, view: int, height: int, width: int) -> tuple[bool, bool, _Source, float, float]:
        """The random choices of a view: both mirrorings, the transform, the factors of brightness and contrast."""
        content = f"{self.seed}:{view}:".encode() + digest
        philox = np.random.Philox(key=int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little"))
        flip, vflip, *others = np.random.Generator(philox).random(8).tolist()
        rotate, down, right, zoom, brightness, contrast = (2 * unit - 1 for unit in others)
        angle, factor = math.radians(self.rotate * rotate), 1 + self.zoom * zoom
        source = _source(height, width, angle, factor, self.shift * down, self.shift * right)
        lights = 1 + self.brightness * brightness, 1 + self.contrast * contrast
        return self.flip and flip < 0.5, self.vflip and vflip < 0.5, source, *lights


def rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """The image, rotated counter-clockwise about its centre as `Augmentation.rotate` does it."""
    height, width, _ = pixels.shape
    return _move(pixels, _source(height, width, math.radians(degrees), 1.0, 0.0, 0.0))


def _in_range(name: str, value: Any) -> float:
    largest, allowed = _RANGES[name]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= largest:  # NaN is not
        raise InvalidChoice(f"{name} is {allowed}; received {value!r}.")
    return number


def _source(height: int, width: int, angle: float, factor: float, down: float, right: float) -> _Source:
    """The transform that scales by `factor` and rotates by `angle` (radians) about the centre, and then shifts."""
    a, b = math.cos(angle) / factor, math.sin(angle) / factor
    left = width / 2 - a * width * (0.5 + right) + b * height * (0.5 + down)
    top = height / 2 - b * width * (0.5 + right) - a * height * (0.5 + down)
    return a, -b, left, b, a, top


def _move(pixels: np.ndarray, source: _Source) -> np.ndarray:
    """The transformed image, resampled once, bilinearly; beyond the image its border pixels are repeated."""
    height, width, channels = pixels.shape
    a, b, left, c, d, top = source
    x, y = np.array([[0, width, 0, width], [0, 0, height, height]])
    west, east = _overhang(a * x + b * y + left, width)
    north, south = _overhang(c * x + d * y + top, height)
    padded = np.pad(pixels, ((north, south), (west, east), (0, 0)), mode="edge")
    image = Image.fromarray(padded[..., 0] if channels == 1 else padded)
    padded_source = (a, b, left + west, c, d, top + north)
    moved = image.transform((width, height), Image.Transform.AFFINE, padded_source, Image.Resampling.BILINEAR)
    return np.asarray(moved).reshape(pixels.shape)


def _overhang(corners: np.ndarray, side: int) -> tuple[int, int]:
    """How many pixels the corners of the new image lie beyond the two ends of a side of the old image."""
    return max(0, math.ceil(-corners.min())), max(0, math.ceil(corners.max() - side))


def _relight(pixels: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    mean = pixels.mean()
    values = brightness * (mean + contrast * (np.arange(256) - mean))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)[pixels]
