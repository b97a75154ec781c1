"""`--precision int8` on the command line: what was lost is said, heads are trained on it, and nets are not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layertap.workflows.training.rounded_heads import head_notes
from transfer.quantisation.losses import Loss

FEATURES = ("--net", "glyphnet", "--layer", "block2_pool", "--size", "16", "--precision", "int8")


@pytest.fixture
def images(tmp_path: Path) -> str:
    """Forty images of light and of dark noise."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 128, (40, 12, 12)).astype(np.uint8)
    pixels[::2] += 127
    np.savez(tmp_path / "images.npz", X=pixels, y=np.array(["light", "dark"] * 20))
    return "images.npz"


@pytest.mark.slow
def test_extraction_says_what_was_lost_and_heads_train_on_the_rest(
    main: Callable, mistake: Callable[..., str], images: str, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf", reason="nets are quantised by NNCF: pip install 'layertap[int8]'")
    first = main("extract", images, *FEATURES, "--json")
    assert first.status == 0, first.stderr
    of_processor = "int8 may be no faster than float32 on this processor"
    remarks = [remark for remark in json.loads(first.stdout)["remarks"] if not remark.startswith(of_processor)]
    assert re.match(
        r"int8: the net was calibrated on 40 of these images.* changes their features by \d+\.\d% at", remarks[0]
    )
    told = re.match(
        r"int8: at block2_pool, a ridge .* on (.*)% of the 40 .* in float32 and on (.*)% in int8;", remarks[1]
    )
    assert told and min(map(float, told.groups())) > 90
    again = main("extract", images, *FEATURES)
    assert "0 rows computed, 40 reused" in again.stdout
    assert "computed by the net that an earlier extraction calibrated on 40 images, 40 of them these" in again.stderr
    assert main("train-head", images, *FEATURES, "--head", "ridge", "--cv", "2", "--out", "run").status == 0
    assert main("predict", "run", images, "--json").status == 0
    said = mistake("fine-tune", images, *FEATURES, "--out", "tuned", "--valid", "0.3")
    assert said == "fine-tuning cannot start from features in int8; use --precision float32."
    said = mistake("extract", images, *FEATURES, "--engine", "keras", "--size", "20")
    assert said == "int8 is computed by OpenVINO; leave out --engine keras, or use another --precision."


def test_a_head_is_judged_where_there_are_enough_images_of_each_class() -> None:
    random = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 20)
    exact = random.normal(size=(40, 3)).astype(np.float32)
    exact[::2, 0] += 9
    loss = Loss("last", np.arange(40), exact, exact + random.normal(scale=0.1, size=(40, 3)).astype(np.float32))
    [note] = head_notes(labels, [loss])
    assert note == (
        "int8: at last, a ridge classifier is right on 100.0% of the 40 images held out in 4 folds in float32 and on "
        "100.0% in int8; both say the same of 100.0%"
    )
    assert head_notes(np.arange(40).astype(str), [loss]) == ()
    assert head_notes(None, [loss]) == ()
    worse = Loss("last", np.arange(40), exact, random.normal(size=(40, 3)).astype(np.float32))
    assert "on 100.0% in int8" not in head_notes(labels, [worse])[0]
