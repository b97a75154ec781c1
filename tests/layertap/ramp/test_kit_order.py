"""The order of a kit's images, whatever the order of those that it is made of."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.utils import shuffle

from layertap.ramp.kit import random_order

N, CLASSES = 1000, 10


def by_python(seed: int) -> np.ndarray:
    order = list(range(N))
    random.Random(seed).shuffle(order)
    return np.array(order)


def by_sample(seed: int) -> np.ndarray:
    return np.array(random.Random(seed).sample(range(N), N))


def in_place(seed: int) -> np.ndarray:
    order = np.arange(N)
    np.random.default_rng(seed).shuffle(order)
    return order


SHUFFLES = {
    "not": lambda seed: np.arange(N),
    "default_rng": lambda seed: np.random.default_rng(seed).permutation(N),
    "default_rng, in place": in_place,
    "SeedSequence": lambda seed: np.random.default_rng(np.random.SeedSequence(seed)).permutation(N),
    "RandomState": lambda seed: np.random.RandomState(seed).permutation(N),  # noqa: NPY002
    "sklearn": lambda seed: shuffle(np.arange(N), random_state=seed),
    "random": by_python,
    "sample": by_sample,
}


@pytest.mark.parametrize("name", SHUFFLES)
@pytest.mark.parametrize("inverse", [False, True])
def test_every_part_of_a_kit_has_about_all_classes_however_its_source_was_shuffled(name: str, inverse: bool) -> None:
    for seed in range(10):
        order = np.asarray(SHUFFLES[name](seed))
        require_mixed(np.argsort(order) if inverse else order, seed)


def test_so_has_a_kit_made_of_a_kit() -> None:
    for seed in range(10):
        require_mixed(np.argsort(random_order(N, seed)), seed)


def require_mixed(source: np.ndarray, seed: int) -> None:
    labels = np.sort(np.arange(N) % CLASSES)[source]
    rows = labels[np.argsort(random_order(N, seed))]  # as they stand in its tables, which are sorted by name
    for part in rows.reshape(10, -1):
        assert len(np.unique(part)) >= CLASSES - 1
