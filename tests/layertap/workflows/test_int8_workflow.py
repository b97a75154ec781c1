"""EfficientNet-Lite0 in int8: a linear head learns as much from it, and its weights are whole numbers of eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from heads.ridge.classifier import RidgeHead
from layertap.workflows.extract import extract
from transfer.data.datasets import load
from transfer.engines.factory import EngineFactory
from transfer.nets.own_weights import OWN_WEIGHTS
from transfer.quantisation.finding import net_of

pytest.importorskip("openvino")
pytest.importorskip("nncf", reason="nets are quantised by NNCF: pip install 'layertap[int8]'")

SIDE = 96


@pytest.mark.slow
@pytest.mark.skipif(not OWN_WEIGHTS["efficientnetlite0"].is_installed(), reason="needs the extra photos")
def test_a_real_net_tells_digits_apart_as_well_with_a_quarter_of_the_bits(tmp_path: Path) -> None:
    digits, cache = load("digits").select(np.arange(900)), FeatureCache(tmp_path)
    accuracies, requests = {}, {}
    for precision in ("float32", "int8"):
        features = extract(digits, "efficientnetlite0", size=SIDE, precision=precision, cache=cache, progress=False)
        rows, requests[precision] = np.asarray(features["top_activation"]), features.request
        head = RidgeHead().fit(rows[:600], digits.labels[:600])
        accuracies[precision] = np.mean(head.predict(rows[600:]) == digits.labels[600:])
    assert accuracies["float32"] > 0.85
    assert accuracies["int8"] > accuracies["float32"] - 0.02
    exact, net = EngineFactory(requests["float32"], "openvino", ()), net_of(requests["int8"], cache)
    sizes = [file.with_suffix(".bin").stat().st_size for file in (exact.converted((SIDE, SIDE, 3)), net.file)]
    assert sizes[1] < 0.35 * sizes[0]  # benchmarks/precision.py says how much faster it is
