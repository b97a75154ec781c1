"""Post-training quantisation of a net of OpenVINO, whatever that was converted from, by NNCF.

Weights are rounded to int8 for each channel of an operation, activations to eight bits for each tensor, by the ranges
that they have on the calibration images; biases are corrected for what rounding the weights adds to the mean. What
NNCF leaves alone, and the outputs, are in float32.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import MissingDependency
from transfer.engines.base import padded
from transfer.engines.openvino_import import import_openvino

# Operations of attention: nets that have them are quantised as transformers.
ATTENTION = {"Softmax", "ScaledDotProductAttention"}
# The smallest range of a tensor; NNCF's own is 8e-5, and makes zeros of all activations that are smaller.
SMALLEST_RANGE = 1e-30


def require_quantiser() -> None:
    """Raise MissingDependency where NNCF is not installed."""
    if find_spec("nncf") is None:
        raise MissingDependency("`precision='int8'` needs the package nncf: pip install 'layertap[int8]'")


def quantise(net: Any, images: np.ndarray, target: Path) -> None:
    """Write the quantised net. The same net and images, in the same order, give the same weights and ranges.

    Parameters
    ----------
    net : Path, or openvino.Model
        Its first axis is that of images. A model of OpenVINO is not to be used afterwards.
    images : ndarray of shape (n, ...)
        The inputs that it is calibrated on, of the dtype of its input.
    target : Path
        Of type ``.xml``; the weights go beside it.

    Raises
    ------
    MissingDependency
        When NNCF is not installed.
    """
    require_quantiser()
    openvino = import_openvino()
    model = openvino.Core().read_model(net) if isinstance(net, Path) else net
    length, *row = model.input(0).partial_shape
    size = 1 if length.is_dynamic else length.get_length()  # some nets take one number of images alone
    from openvino._offline_transformations import apply_moc_transformations  # slow to load

    # OpenVINO's own rewriting puts the factors of batch normalisation into kernels: biases then follow convolutions at
    # once, where NNCF finds them to correct them. It makes constants of shapes that are known, so that the number of
    # images must not be set before.
    apply_moc_transformations(model, cf=True, smart_reshape=False)
    model.reshape({0: [size, *row]})
    with _quiet_nncf() as nncf:
        attention = any(operation.get_type_name() in ATTENTION for operation in model.get_ordered_ops())
        quantised = nncf.quantize(
            model,
            nncf.Dataset([padded(images[start : start + size], size) for start in range(0, len(images), size)]),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
        )
    quantised.reshape({0: [length, *row]})
    openvino.save_model(quantised, str(target), compress_to_fp16=False)


@contextlib.contextmanager
def _quiet_nncf() -> Iterator[Any]:
    """NNCF, without the progress and the notes that it prints to stdout, and with another smallest range."""
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf  # optional, and slow to load
        from nncf.quantization import fake_quantize

        logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function sets the handlers of others, too
        own = fake_quantize.fix_zero_filters_symmetric
        fake_quantize.fix_zero_filters_symmetric = _range
        try:
            yield nncf
        finally:
            fake_quantize.fix_zero_filters_symmetric = own


def _range(largest: Any, eps: float = 0.01) -> Any:
    """The ranges of channels: the largest values in them, and at least a hundredth of the largest of all."""
    from nncf.tensor import functions  # optional, and slow to load

    return functions.maximum(functions.maximum(functions.max(largest) * eps, SMALLEST_RANGE), largest)
