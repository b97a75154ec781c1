"""`FeatureSpec`: everything that shapes the numbers of a set of features."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from feature_cache.errors import DamagedFile, InvalidChoice, one_line, unknown

POOLINGS = ("avg", "max", "flatten", "none", "cls", "cls+avg")
# Poolings in which patches are told apart from the tokens before them.
PATCH_POOLINGS = ("avg", "max", "none", "cls+avg")
FITS = ("stretch", "crop", "pad")
FILLS = ("black", "gray")  # of the bars of `pad`; early versions had black alone
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
PREPROCESSINGS = ("none", "unit", "tf", "torch", "caffe")
# Before the numbers that pixels of each channel are multiplied by, and those that are added then.
AFFINE = "affine"
ALPHAS = ("white", "black", "ignore")
PAGES = ("first", "channels")
PERCENTILES = "percentiles"
PRECISIONS = ("float32", "bfloat16", "float16", "int8")
DTYPES = ("float32", "float16", "int8")
# The name that stands for a net in the spec of transformed images, and the further dtypes that these may have.
TRANSFORM = "transform"
IMAGE_DTYPES = ("uint8", "uint16", "int32", "int64", "float64")

# The version of the recipe that makes pixels (decoding, conversion of modes, resizing). Any change
# that can alter a pixel raises it, so that features of the old recipe are never taken for new ones.
PIXEL_RECIPE = 1
# Fields that were added after the first caches were written; they are left out of the JSON at their defaults.
_LATER = ("coding", "alpha", "pages", "window", "prefix_tokens", "calibration", "fill")
# The fields of a spec that say what is done with pixels; all others shape the pixels themselves.
_AFTER_PIXELS = {"net", "weights", "layer", "pooling", "prefix_tokens", "preprocessing", "augmentation"}
_AFTER_PIXELS |= {"precision", "calibration", "dtype", "coding"}
# Pixels of a net's input: a colour image of so many takes 0.8 GB in float32.
LARGEST_SIZE = 2**26
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_NAMED = {
    "none": ((1.0,) * 3, (0.0,) * 3),
    "unit": ((1 / 255,) * 3, (0.0,) * 3),
    "tf": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "torch": (
        tuple(1 / (255 * std) for std in _STD),
        tuple(-mean / std for mean, std in zip(_MEAN, _STD, strict=True)),
    ),
}


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Everything that shapes the numbers of a set of features: two equal specs mean the same numbers.

    Attributes
    ----------
    net : str
        Name of the net; ``file-`` and the start of its digest for a file.
    weights : str
        ``imagenet``, ``random-SEED``, or ``sha256:`` and the digest of the weights file.
    layer : str
        The layer that is read out, ``outer/inner`` inside nested models.
    pooling : {'avg', 'max', 'flatten', 'none', 'cls', 'cls+avg'}
        How the spatial axes, or the tokens, are pooled. ``cls`` is the first token.
    size : (int, int)
        Height and width of the net's input, in pixels.
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'} or str
        How pixels of 0 to 255 become what the net was trained on: also ``affine:S,S,S:O,O,O``, factors of the channels
        and what is added then.
    fit : {'stretch', 'crop', 'pad'}
        How an image of another shape is fitted to `size`.
    fill : {'black', 'gray'}
        What ``pad`` fills the rest of the input with; ``black`` for other fits, which leave no rest.
    interpolation : {'bilinear', 'bicubic', 'lanczos', 'nearest'}
    alpha : {'white', 'black', 'ignore'}
        The background behind transparent pixels; ``ignore`` drops the alpha channel.
    pages : {'first', 'channels'}
        Whether the first page of a file is the image, or its pages are the image's channels.
    window : str or None
        The stored values that become black and white, ``LOW,HIGH`` or ``percentiles``, in images of more than 8 bits;
        None for the full range of their integers.
    prefix_tokens : int or None
        How many tokens (class token, register tokens) stand before those of the patches, where the pooling leaves
        them out; None where all of the output is pooled, or it has no tokens.
    transform : str or None
        The user's function that changes images before they are fitted: its name, and the digest of its source.
    augmentation : str or None
        The parameters and the seed of the augmentation.
    precision : {'float32', 'bfloat16', 'float16', 'int8'}
        The precision of the computation; in 16 bits as in Keras's mixed precision, with weights in float32. ``int8`` is
        a net that was quantised, weights and activations, which `calibration` identifies.
    dtype : {'float32', 'float16', 'int8'}
        The dtype of the stored features; for transformed images also one of `IMAGE_DTYPES`.
    coding : str or None
        Codes or coordinates that the features were turned into afterwards (see `feature_cache.segments.encoding`).
    recipe : int
        The value of `PIXEL_RECIPE` when the features were computed.
    calibration : str or None
        What identifies a quantised net (see `feature_cache.files.quantised_nets.Calibration`): the number of images
        that it was calibrated on, the seed that chose them, their digest, and the digest of the net. None for other
        precisions, and for ``int8`` as long as no net has been quantised: then there are no rows.

    Raises
    ------
    InvalidChoice
        For a value outside the allowed ones.

    Examples
    --------
    >>> spec = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(224, 224))
    >>> spec.folder_name  # doctest: +ELLIPSIS
    'vgg16-block5_pool-avg-...'
    >>> spec == FeatureSpec.from_json(spec.to_json())
    True
    >>> FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(224, 224), fit="fill")
    Traceback (most recent call last):
        ...
    feature_cache.errors.InvalidChoice: there is no fit 'fill'; allowed: stretch, crop, pad.
    """

    net: str
    weights: str
    layer: str
    size: tuple[int, int]
    pooling: str = "avg"
    preprocessing: str = "none"
    fit: str = "stretch"
    interpolation: str = "bilinear"
    transform: str | None = None
    augmentation: str | None = None
    precision: str = "float32"
    dtype: str = "float32"
    coding: str | None = None
    recipe: int = PIXEL_RECIPE
    alpha: str = "white"
    pages: str = "first"
    window: str | None = None
    prefix_tokens: int | None = None
    calibration: str | None = None
    fill: str = "black"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in ("str", "str | None") and not isinstance(value, str) and value is not field.default:
                raise InvalidChoice(f"{field.name} is a text; received {value!r}.")
        for kind, value, allowed in (
            ("pooling", self.pooling, POOLINGS),
            ("fit", self.fit, FITS),
            ("fill", self.fill, FILLS),
            ("interpolation", self.interpolation, INTERPOLATIONS),
            *([] if affine_numbers(self.preprocessing) else [("preprocessing", self.preprocessing, PREPROCESSINGS)]),
            ("alpha", self.alpha, ALPHAS),
            ("pages", self.pages, PAGES),
            ("precision", self.precision, PRECISIONS),
            ("dtype", self.dtype, (*DTYPES, *IMAGE_DTYPES) if self.net == TRANSFORM else DTYPES),
        ):
            if value not in allowed:
                raise unknown(f"there is no {kind}", value, allowed)
        if self.fit != "pad" and self.fill != FILLS[0]:
            raise InvalidChoice(f"`fill` is for `fit='pad'`: {self.fit!r} leaves nothing to fill up.")
        window_limits(self.window)
        if self.prefix_tokens != effective_prefix(self.pooling, self.prefix_tokens):
            raise InvalidChoice(
                f"prefix_tokens is a number of tokens that `pooling` leaves out; received {self.prefix_tokens!r} with "
                f"pooling {self.pooling!r}."
            )
        if len(self.size) != 2 or any(type(side) is not int or side < 1 for side in self.size):
            raise InvalidChoice(f"size is (height, width) in pixels, each at least 1; received {self.size!r}.")
        if self.size[0] * self.size[1] > LARGEST_SIZE:
            raise InvalidChoice(f"size is up to {LARGEST_SIZE:,} pixels in all; received {self.size!r}.")
        if type(self.recipe) is not int:
            raise InvalidChoice(f"recipe is a number; received {self.recipe!r}.")

    def to_json(self) -> str:
        """Canonical JSON: the same text for equal specs.

        A field that is added in a later version must be left out at its default, or no existing cache would be
        found any more.
        """
        values = dataclasses.asdict(self)
        for name in _LATER:
            if values[name] == getattr(FeatureSpec, name):
                del values[name]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> FeatureSpec:
        """The spec that `to_json` wrote.

        Raises
        ------
        DamagedFile
            When `text` is not a spec that this version knows.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**{**values, "size": tuple(values["size"])})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = one_line(error)
            raise DamagedFile(f"not a feature spec of this version of Layertap ({reason}).") from error

    @property
    def pooling_rule(self) -> str:
        """The pooling and, where that matters, the number of prefix tokens after it: ``avg``, ``avg-5``."""
        return self.pooling if self.prefix_tokens is None else f"{self.pooling}-{self.prefix_tokens}"

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def pixel_key(self) -> str:
        """16 hexadecimal digits that identify the pixels of the net's input; they are equal for all its layers."""
        values = {name: value for name, value in json.loads(self.to_json()).items() if name not in _AFTER_PIXELS}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def as_computed(self) -> FeatureSpec:
        """The spec of the features as they are computed, of which this one may be a shrunk copy."""
        return replace(self, dtype="float32", coding=None)

    @property
    def folder_name(self) -> str:
        """Name of the folder that holds such features: a readable part and the start of the digest."""
        stored = [name for name in (self.precision, self.dtype) if name != "float32"]
        stored += [] if self.coding is None else [self.coding.partition("-")[0]]
        readable = "-".join([f"{self.net}-{self.layer}-{self.pooling}"[:80], *dict.fromkeys(stored)])
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '.', readable[:160]).lstrip('.')}-{self.digest[:8]}"


def effective_prefix(pooling: str, prefix_tokens: int | None) -> int | None:
    """The number of prefix tokens for a spec: None where it does not change what `pooling` gives.

    Raises
    ------
    InvalidChoice
        When it is no number of tokens, or there is no class token for a pooling that reads it.

    Examples
    --------
    >>> effective_prefix("avg", 5), effective_prefix("avg", 0), effective_prefix("flatten", 5)
    (5, None, None)
    """
    if prefix_tokens is not None and (type(prefix_tokens) is not int or prefix_tokens < 0):
        raise InvalidChoice(f"prefix_tokens is a number of tokens, 0 or more; received {prefix_tokens!r}.")
    if pooling in ("cls", "cls+avg") and prefix_tokens == 0:
        raise InvalidChoice(
            f"`pooling='{pooling}'` reads the class token, and there is none with 0 prefix tokens; use "
            "`pooling='avg'`, or say how many tokens are no patches with `prefix_tokens`."
        )
    if pooling == "cls+avg" and prefix_tokens is None:
        raise InvalidChoice("`pooling='cls+avg'` needs the number of tokens before those of the patches.")
    if pooling not in PATCH_POOLINGS or (pooling in ("avg", "max") and prefix_tokens == 0):
        return None
    return prefix_tokens


def affine_text(scale: Sequence[float], offset: Sequence[float]) -> str:
    """The preprocessing that multiplies pixels and adds to them: by its name where it has one.

    Examples
    --------
    >>> affine_text([1 / 127.5] * 3, [-1.0] * 3)
    'tf'
    >>> affine_text([0.5] * 3, [0.0] * 3)
    'affine:0.5,0.5,0.5:0.0,0.0,0.0'
    """
    for name, (factor, added) in _NAMED.items():
        if all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip((*scale, *offset), (*factor, *added), strict=True)):
            return name
    return f"{AFFINE}:{','.join(map(repr, scale))}:{','.join(map(repr, offset))}"


def affine_numbers(preprocessing: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The factors and what is added, of a preprocessing that names them; else None."""
    kind, _, numbers = preprocessing.partition(":")
    try:
        scale, offset = (tuple(map(float, part.split(","))) for part in numbers.split(":"))
    except ValueError:
        return None
    is_plain = kind == AFFINE and len(scale) == len(offset) == 3 and all(map(math.isfinite, (*scale, *offset)))
    return (scale, offset) if is_plain else None


def window_limits(window: str | None) -> tuple[float, float] | None:
    """The values of black and white that a window names; None where it names none.

    Raises
    ------
    InvalidChoice
        When it is neither None, nor ``percentiles``, nor two numbers of which the first is the lower.
    """
    if window is None or window == PERCENTILES:
        return None
    limits = two_numbers(window)
    if limits is None:
        raise InvalidChoice(
            f"window is two numbers, the lower first, as 0,4095, or {PERCENTILES}; received {window!r}."
        )
    return limits


def two_numbers(text: str) -> tuple[float, float] | None:
    """The numbers of ``LOW,HIGH``; None where these are not two finite numbers, the lower first."""
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        return None
    return (low, high) if low < high and math.isfinite(high - low) else None
