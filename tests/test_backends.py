"""The same features whatever computes them: a file made with TensorFlow holds the reference.

`make test-jax` runs this where only JAX is installed. To make the file anew after a change of the
pixel recipe or of glyphnet's weights: python tests/test_backends.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache
from transfer.data.datasets import load
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

REFERENCE = Path(__file__).with_name("reference_features.npz")
NETS = {
    "glyphnet": FeatureRequest(Net("glyphnet"), ("block3_conv1", "block4_pool")),
    "mobilenetv2": FeatureRequest(Net("mobilenetv2", "none", seed=3), size=(32, 32)),
    "efficientnetb0": FeatureRequest(
        Net("efficientnetb0", "none"), ("block2a_expand_activation", "top_activation"), size=(32, 32)
    ),
}


def compute(name: str, folder: Path, engine: str = "keras") -> dict[str, np.ndarray]:
    digits = load("digits").select(np.arange(0, 1797, 180))
    cache = FeatureCache(folder)
    extract(digits, NETS[name], cache, batch_size=4, engine=engine)
    features = stored_features(digits, NETS[name], cache).features
    return {f"{name}/{layer}": np.asarray(rows) for layer, rows in features.items()}


@pytest.fixture(autouse=True)
def optimized() -> Iterator[None]:
    """JAX compiles as it does for users: `make test-jax` turns its optimizations off for the other tests."""
    import keras

    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize("name", list(NETS))
def test_every_backend_gives_the_features_of_the_reference(name: str, engine: str, tmp_path: Path) -> None:
    reference = np.load(REFERENCE)
    for key, rows in compute(name, tmp_path, engine).items():
        scale = np.abs(reference[key]).max()
        assert scale > 0
        assert np.abs(rows - reference[key]).max() <= 1e-3 * scale


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = {key: rows for name in NETS for key, rows in compute(name, Path(scratch)).items()}
    np.savez_compressed(REFERENCE, **made)
