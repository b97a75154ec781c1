"""The temperature of a softmax, against SciPy's search for the lowest log-loss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from heads.temperature import inverse_temperature

WIDE = (1e-6, 1e6)


def expected_loss(factor: float, logits: np.ndarray, target: np.ndarray, among_all: bool) -> float:
    """The log-loss where a mistake in 1 of n + 2 rows is expected."""
    n, k = logits.shape
    share = np.full((n, k), 1 / (n + 2) / (k if among_all else k - 1))
    share[np.arange(n), target] = 1 - 1 / (n + 2) + (share[0, 0] if among_all else 0)
    return float(-(share * log_softmax(factor * logits, axis=1)).sum(1).mean())


@pytest.mark.parametrize("among_all", [False, True])
@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("signal", [0.0, 0.3, 3.0, 100.0])
def test_no_other_factor_has_a_lower_log_loss(signal: float, classes: int, among_all: bool) -> None:
    rng = np.random.default_rng(classes)
    target = rng.integers(0, classes, 200)
    logits = rng.normal(size=(200, classes)) * 5
    logits[np.arange(200), target] += 5 * signal
    factor = inverse_temperature(logits, target, mistakes_among_all=among_all, bounds=WIDE)

    def loss(logarithm: float) -> float:
        return expected_loss(np.exp(logarithm), logits, target, among_all)

    found = minimize_scalar(loss, bounds=np.log(WIDE), method="bounded", options={"xatol": 1e-10})
    assert loss(np.log(factor)) <= found.fun + 1e-12
    if 1e-5 < factor < 1e5:
        assert np.log(factor) == pytest.approx(found.x, abs=1e-5)


def test_of_chance_and_of_certainty_it_stays_in_its_bounds() -> None:
    target = np.array([0, 1] * 10)
    right = np.where(target[:, None] == np.arange(2), 1.0, -1.0)
    assert inverse_temperature(-right, target, bounds=(0.5, 2.0)) == pytest.approx(0.5)
    assert inverse_temperature(right, target, bounds=(0.5, 1.5)) == pytest.approx(1.5, rel=1e-5)
    assert 1.5 < inverse_temperature(right, target, bounds=WIDE) < 2.5  # 21 of 22 rows are expected to be right
    assert inverse_temperature(0 * right, target) == inverse_temperature(np.nan * right, target) == 1
