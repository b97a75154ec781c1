"""What runs keep of the predictions for images that were held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import layertap as lt
from feature_cache.errors import DamagedFile
from heads.evaluation.cross_validation import Evaluation
from layertap.held_out import HELD_OUT_FILE, HeldOut, read_held_out


def test_run_keeps_a_prediction_of_every_image_by_heads_that_did_not_see_it(tmp_path: Path):
    digits = lt.load_dataset("digits").select(np.arange(300))
    features = lt.extract(digits, "glyphnet", cache=tmp_path / "features", progress=False)
    written = lt.train_head(digits, features, "ridge", cv=3, test=0.1, out=tmp_path / "run", map=None, progress=False)
    held_out = lt.load_run(tmp_path / "run").held_out
    assert held_out is not None
    assert held_out.ids == digits.ids
    assert (held_out.targets == digits.labels).all()
    assert held_out.predicted.sum() == 270  # the others are the test
    assert np.isnan(held_out.outputs[~held_out.predicted]).all()
    shown = held_out.outputs[held_out.predicted]
    right = np.array(held_out.names)[shown.argmax(axis=1)] == held_out.targets[held_out.predicted]
    assert right.mean() == pytest.approx(written.scores["accuracy"].mean, abs=0.01)
    assert set(held_out.splits.tolist()) == {-1, 0, 1, 2}


def test_images_held_out_several_times_have_the_mean(tmp_path: Path):
    twice = Evaluation(rows=[np.array([0]), np.array([0, 1])], outputs=[np.array([[1.0]]), np.array([[2.0], [5.0]])])
    HeldOut.of(("a", "\udce9\n", "c"), np.zeros((3, 16), np.uint8), np.zeros(3), ("size",), twice).write(tmp_path)
    read = read_held_out(tmp_path)
    assert read is not None
    assert read.ids == ("a", "\udce9\n", "c")
    assert read.outputs[:2].tolist() == [[1.5], [5.0]]
    assert read.splits.tolist() == [0, 1, -1]


@pytest.mark.parametrize("name", ["outputs", "targets", "ids"])
def test_file_whose_arrays_do_not_go_together_is_damaged(tmp_path: Path, name: str):
    HeldOut.of(("a",), np.zeros((1, 16), np.uint8), np.zeros(1), ("size",), Evaluation()).write(tmp_path)
    with np.load(tmp_path / HELD_OUT_FILE) as arrays:
        changed = {**arrays, name: arrays[name][:0]}
    np.savez(tmp_path / HELD_OUT_FILE, **changed)
    with pytest.raises(DamagedFile, match=r"held-out.npz cannot be read \(.*\); train again\."):
        read_held_out(tmp_path)
