"""Similarity of spaces, the two-sample test and paired predictions, against direct formulas and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score
from sklearn.metrics.pairwise import rbf_kernel

from feature_cache.errors import BadData
from layertap.analysis.paired_predictions import cohen_kappa, compare_predictions, mcnemar
from layertap.analysis.similarity import linear_cka, rsa, unbiased_cka
from layertap.analysis.two_samples import mmd_test


@pytest.fixture
def spaces() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 7)) + 3
    return x, np.tanh(x @ rng.standard_normal((7, 5))) + 0.3 * rng.standard_normal((60, 5))


def test_cka_is_that_of_centred_kernels(spaces: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = spaces
    centre = np.eye(60) - 1 / 60
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m))
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((7, 7)))[0]
    assert linear_cka(5 * x @ turned + 2, y) == pytest.approx(linear_cka(x, y))


def test_unbiased_hsic_is_the_mean_over_all_choices_of_four_images(spaces: tuple[np.ndarray, np.ndarray]) -> None:
    from itertools import permutations

    x, y = (rows[:7] for rows in spaces)
    k, m = x @ x.T, y @ y.T

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        terms = [a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in permutations(range(7), 4)]
        return float(np.mean(terms))

    assert unbiased_cka(x, y) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def test_rsa_is_the_correlation_of_dissimilarities(spaces: tuple[np.ndarray, np.ndarray]) -> None:
    pairs = [(1 - np.corrcoef(rows))[np.triu_indices(60, 1)] for rows in spaces]
    assert rsa(*spaces) == pytest.approx(spearmanr(*pairs).statistic)
    assert rsa(*spaces, ranks=False) == pytest.approx(pearsonr(*pairs).statistic)


def test_mmd_is_that_of_the_definition_and_its_p_value_is_uniform_without_drift() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.standard_normal((20, 3)), rng.standard_normal((30, 3)) + 0.5
    found = mmd_test(old, new, permutations=50)
    assert found.bandwidth == pytest.approx(np.median(pdist(np.concatenate([old, new]))))
    gamma = 1 / (2 * found.bandwidth**2)
    within = [squareform(rbf_kernel(one, gamma=gamma), checks=False).mean() for one in (old, new)]
    assert found.mmd2 == pytest.approx(sum(within) - 2 * rbf_kernel(old, new, gamma=gamma).mean())
    values = [mmd_test(*rng.standard_normal((2, 15, 2)), permutations=99).p_value for _ in range(100)]
    assert 0.35 < np.mean(values) < 0.65
    with pytest.raises(BadData, match="at least 2 images each"):
        mmd_test(old[:1], new)


def test_paired_predictions_are_compared_as_scikit_learn_and_the_binomial_distribution_do() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    first, second = (np.where(rng.random(200) < right, truth, rng.integers(0, 3, 200)) for right in (0.6, 0.8))
    found = compare_predictions(truth, first, second)
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.difference == pytest.approx(found.accuracy[1] - found.accuracy[0])
    gains = (second == truth).astype(float) - (first == truth)
    half = 1.959964 * gains.std() / np.sqrt(200)
    assert found.interval == pytest.approx((gains.mean() - half, gains.mean() + half))
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(5100, 5300) == pytest.approx(0.0512, abs=2e-3)
    assert cohen_kappa(truth, truth) == 1
