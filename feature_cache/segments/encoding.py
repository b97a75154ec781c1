"""The precision ladder: features stored in fewer bits or dimensions than they were computed in.

float16    each number rounded to half precision; what is beyond its range is refused
int8       per channel (last axis), ``round(x / scale)`` with ``scale = max|x| / 127`` over the rows that it was made
           of: symmetric linear quantisation (Jacob et al. 2018, arXiv:1712.05877, section 2.1, zero point 0)
pca        coordinates on the principal axes of the rows that they were made of (Pearson 1901), float32

float16 and pca are read as they are stored, int8 as ``code * scale`` in float32. Scales and axes are part of every
segment, and their digest is part of the spec: other scales are other features.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData
from feature_cache.spec import FeatureSpec

Parameters = dict[str, np.ndarray]

FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass
class Rounding:
    """The error that storing makes, gathered over rows.

    Attributes
    ----------
    largest : float
        Largest absolute difference.
    """

    largest: float = 0.0
    _error: float = 0.0
    _power: float = 0.0

    def add(self, exact: np.ndarray, stored: np.ndarray) -> None:
        """Add rows, as they were computed and as they are read back; infinite values and NaN are left out."""
        finite = np.isfinite(exact)
        exact = exact[finite].astype(np.float64)
        difference = np.abs(exact - stored[finite])
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self._error += float(np.square(difference).sum())
        self._power += float(np.square(exact).sum())

    @property
    def relative(self) -> float:
        """The root mean square of the error, divided by that of the features."""
        return float(np.sqrt(self._error / self._power)) if self._power else 0.0

    def as_dict(self) -> dict[str, float]:
        return {"largest": self.largest, "relative_rms": self.relative}


def decoded_dtype(spec: FeatureSpec) -> np.dtype:
    """The dtype of the rows of `spec` as they are read."""
    return np.dtype("float32" if spec.dtype == "int8" else spec.dtype)


def decode(stored: np.ndarray, spec: FeatureSpec, parameters: Parameters) -> np.ndarray:
    """The rows as they are read, decoded from the rows as they are stored."""
    return stored * parameters["scale"] if spec.dtype == "int8" else stored


def to_dtype(features: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """`features` in the dtype of `spec`, float32 or float16.

    Raises
    ------
    BadData
        When one is beyond the range of float16.
    """
    if spec.dtype != "float16" or features.dtype == np.float16:
        return np.asarray(features, spec.dtype)
    largest = float(np.abs(features, where=np.isfinite(features), out=np.zeros_like(features)).max(initial=0.0))
    if largest >= FLOAT16_MAX + 16:  # half a step above the largest number rounds to infinity
        raise BadData(
            f"features of {spec.net} at {spec.layer} reach {largest:.6g} and float16 holds up to {FLOAT16_MAX:.0f}; "
            "store them as float32."
        )
    return features.astype(np.float16)


def int8_parameters(largest: np.ndarray) -> Parameters:
    """Parameters of int8 codes, from the largest absolute value of each channel, shape (channels,)."""
    return {"scale": (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)}


def to_int8(features: np.ndarray, parameters: Parameters) -> np.ndarray:
    """The int8 codes of rows, from -127 to 127."""
    return np.clip(np.rint(features / parameters["scale"]), -127, 127).astype(np.int8)


def to_axes(features: np.ndarray, parameters: Parameters) -> np.ndarray:
    """The coordinates of rows on the principal axes: shape (n, k), float32."""
    flat = features.reshape(len(features), -1).astype(np.float32)
    return (flat - parameters["mean"]) @ parameters["axes"].T


def as_read(features: np.ndarray, spec: FeatureSpec, parameters: Parameters) -> np.ndarray:
    """The `features` as they are read after coding by `spec`: rounded, or projected on its axes."""
    if spec.dtype == "int8":
        return decode(to_int8(features, parameters), spec, parameters)
    return to_axes(features, parameters) if spec.coding else to_dtype(features, spec)


def digest(parameters: Parameters) -> str:
    """Eight hexadecimal digits that identify the parameters of a coding."""
    state = hashlib.blake2b(digest_size=4)
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name])
        state.update(f"{name}{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return state.hexdigest()


def fits(spec: FeatureSpec, parameters: Parameters) -> bool:
    """Whether these are the parameters whose digest `spec` names."""
    return (spec.coding or "").rpartition("-")[2] == (digest(parameters) if parameters else "")
