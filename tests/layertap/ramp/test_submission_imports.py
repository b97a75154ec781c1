"""What submissions import: `layertap.ramp` alone, and, where version 0.1 wrote them, the modules of then."""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys

import numpy as np
import pytest

import layertap.ramp
from layertap.ramp import StartingClassifier, fit_head, hold_out, make_head
from layertap.ramp.transforms import code_loading

# What the kits and submissions of version 0.1 import.
FORMER = {
    "heads.fusing": ("affine",),
    "heads.grouping": ("for_fit", "inner_split", "numbered"),
    "heads.registry": ("make_head",),
    "heads.views": ("Views",),
    "transfer.finetune.recipe": ("Recipe",),
    "transfer.ramp": ("ImageClassifier",),
    "transfer.ramp.features": ("BatchFeatures",),
    "transfer.ramp.pixels": ("fitted",),
    "transfer.ramp.tuning": ("BatchTuner",),
}
GROUPS = np.arange(60) // 3  # of copies
LABELS = GROUPS % 2
ROWS = (np.random.default_rng(0).normal(size=(20, 4)) + 3 * np.eye(2, 4)[np.arange(20) % 2])[GROUPS].astype(np.float32)


@pytest.mark.parametrize("name", layertap.ramp.__all__)
def test_public_names_are_there_and_say_what_they_are(name: str) -> None:
    assert getattr(layertap.ramp, name).__doc__


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = layertap.ramp.nothing


@pytest.mark.parametrize("module", FORMER)
def test_what_submissions_of_version_0_1_import_is_there(module: str) -> None:
    for name in FORMER[module]:
        assert callable(getattr(importlib.import_module(module), name))


def test_a_head_is_fitted_as_submissions_of_version_0_1_do() -> None:
    views, grouping = importlib.import_module("heads.views"), importlib.import_module("heads.grouping")
    today = fit_head(make_head("ridge", {}), ROWS, LABELS, GROUPS)
    then = views.Views().fit(make_head("ridge", {}), ROWS, LABELS, contents=GROUPS)
    head = make_head("ridge", {})
    probe = head.fit(ROWS, LABELS, **grouping.for_fit(head, grouping.numbered(GROUPS, LABELS)))
    for other in (then, probe):
        np.testing.assert_array_equal(other.predict_proba(ROWS), today.predict_proba(ROWS))


def test_fine_tuning_starts_from_the_head_whose_classifier_it_is() -> None:
    start = StartingClassifier("ridge", {"alphas": [1.0]})
    kernel, bias = pickle.loads(pickle.dumps(start))(ROWS, LABELS, GROUPS)
    logits = ROWS @ kernel + bias
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    head = fit_head(make_head("ridge", {"alphas": [1.0]}), ROWS, LABELS, GROUPS)
    np.testing.assert_allclose(probabilities, head.predict_proba(ROWS), atol=1e-5)


def test_images_held_out_have_no_copy_among_those_that_train() -> None:
    split = hold_out(LABELS, 0.25, 0, GROUPS)
    assert split is not None
    train, held_out = split
    assert not np.intersect1d(GROUPS[train], GROUPS[held_out]).size
    assert sorted([*train, *held_out]) == list(range(len(GROUPS)))


def test_transformed_images_of_version_0_1_are_found_again() -> None:
    source = b"from transfer.ramp.pixels import fitted\n\n\ndef transform(x):\n    return fitted(x, (8, 8))\n"
    state = hashlib.sha256(sys.version.encode() + len(source).to_bytes(8, "little") + source)
    state.update(b"transfer\0" + b"0.1.0 1 2")
    assert code_loading.digest(source) == state.hexdigest()
