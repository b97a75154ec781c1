"""EfficientNet-Lite0 in int8: a linear head learns as much from it, and the processor has less to do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from heads.ridge.classifier import RidgeHead
from layertap.workflows.extract import extract
from transfer.data.datasets import load
from transfer.engines.base import Engine
from transfer.engines.factory import EngineFactory
from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.hardware import multiplies_int8
from transfer.nets.own_weights import OWN_WEIGHTS
from transfer.quantisation.finding import net_of

pytest.importorskip("openvino")
pytest.importorskip("nncf", reason="nets are quantised by NNCF: pip install 'layertap[int8]'")

SIDE, BATCH = 96, 16


@pytest.mark.slow
@pytest.mark.skipif(not OWN_WEIGHTS["efficientnetlite0"].is_installed(), reason="needs the extra photos")
def test_a_real_net_tells_digits_apart_as_well_in_less_time(tmp_path: Path) -> None:
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
    engines = [OpenVinoEngine(exact.converted((SIDE, SIDE, 3)), BATCH), OpenVinoEngine(net.file, BATCH)]
    if multiplies_int8():
        before, after = (min(seconds(engine) for _ in range(3)) for engine in engines)
        assert before / after > 2


def seconds(engine: Engine) -> float:
    """Of the processor, which other work hardly changes."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype(np.uint8)
    start = time.process_time()
    for wait in [engine.start(images) for _ in range(4)]:
        wait()
    return time.process_time() - start
