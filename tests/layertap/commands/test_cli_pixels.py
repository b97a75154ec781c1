"""What commands say of the pixels that the net of a file gets, and that runs keep what they were trained with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from layertap.runs import net_of_run
from transfer.nets import catalogue
from transfer.nets.expected_pixels.expected import ExpectedPixels, expected_pixels

SCALED, UNKNOWN = "scaled.keras", "unknown.keras"
SAID = f"note: {SCALED} scales pixels itself (Rescaling): it gets them as 0 to 1 ("
ASSUMED = f"warning: {UNKNOWN} does not say which pixels it expects: it gets them as 0 to 255."


@pytest.fixture
def here(data: Path) -> Path:
    layers = keras.layers
    for name, first in ((SCALED, [layers.Rescaling(2.0, offset=-1.0)]), (UNKNOWN, [])):
        keras.utils.set_random_seed(0)
        convolution = layers.Conv2D(4, 3, name="conv", activation="relu")
        net = [keras.Input((12, 12, 3)), *first, convolution, layers.MaxPooling2D(name="pool")]
        keras.Sequential(net).save(data.parent / name)
    return data.parent


@pytest.mark.slow
@pytest.mark.parametrize(("net", "expected"), [(SCALED, SAID), (UNKNOWN, ASSUMED)])
def test_each_command_says_it_once(here: Path, main: Callable, net: str, expected: str) -> None:
    features = ("data", "--net", net, "--layer", "pool")
    for command in (
        ("layers", net),
        ("extract", *features, "--plan"),
        ("extract", *features),
        ("extract", *features),
        ("train-head", *features, "--head", "ridge", "--cv", "2", "--out", "head"),
        ("sweep", "data", "--net", net, "--head", "ridge", "--cv", "2", "--out", "sweep", "--extract"),
        ("fine-tune", *features, "--unfreeze-from", "conv", "--cv", "2", "--epochs", "1", "--out", "tuned"),
    ):
        done = main(*command)
        assert done.status == 0, done.stderr
        assert done.stderr.count(expected) == 1, (command, done.stderr)
        assert expected not in done.stdout
        assert "`preprocessing" not in done.stderr, command
    said = main("extract", *features, "--preprocessing", "tf")
    assert net not in said.stderr
    assert "(--preprocessing unit)" in main("extract", "data", "--net", SCALED, "--layer", "pool").stderr
    report = json.loads(main("extract", *features, "--json").stdout)
    assert len(report["remarks"]) == 1
    assert report["remarks"][0].startswith(net)


@pytest.mark.slow
def test_runs_of_earlier_versions_keep_their_pixels(
    here: Path, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1 gave every file pixels of 0 to 255, and noted no preprocessing of the net."""
    features = ("data", "--net", SCALED, "--layer", "pool")
    with monkeypatch.context() as before:
        before.setattr(catalogue, "expected_pixels", lambda file: ExpectedPixels("none", "", is_known=False))
        for command in (
            ("extract", *features),
            ("train-head", *features, "--head", "ridge", "--cv", "2", "--out", "head"),
            ("fine-tune", *features, "--unfreeze-from", "conv", "--cv", "2", "--epochs", "1", "--out", "tuned"),
        ):
            assert main(*command).status == 0
    for run in ("head", "tuned"):
        config = json.loads((here / run / "config.json").read_text())
        assert (config["spec"]["preprocessing"], config["net"]["preprocessing"]) == ("none", None)
        done = main("evaluate", run, "data")
        assert done.status == 0, done.stderr
        assert "scales pixels itself" not in done.stderr
    exported = expected_pixels(here / "tuned" / "model.keras")
    assert (exported.preprocessing, exported.is_known) == ("none", True)
    assert net_of_run(here / "tuned").applied_preprocessing == "none"
    assert "12 reused" in main("extract", "data", "--net", "tuned", "--layer", "pool").stdout
    assert "12 reused" in main("extract", *features, "--preprocessing", "none").stdout
    assert "12 rows computed" in main("extract", *features).stdout
