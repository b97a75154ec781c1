"""The command line's choice of an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

LAYER = ("--layer", "block1_pool")


@pytest.fixture
def needs_openvino() -> None:
    pytest.importorskip("openvino")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("OpenVINO converts nets by way of TensorFlow")


def test_the_engines_share_their_features(needs_openvino: None, main: Callable, data: Path) -> None:
    first = json.loads(main("extract", data, *LAYER, "--engine", "keras", "--json").stdout)
    second = json.loads(main("extract", data, *LAYER, "--engine", "openvino", "--json").stdout)
    assert (first["rows_computed"], first["engine"]) == (12, "keras")
    assert (second["rows_computed"], second["rows_reused"], second["engine"]) == (0, 12, "")
    assert first["spaces"] == second["spaces"]


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_json_tells_of_the_engine_and_of_what_was_waited_for(
    request: pytest.FixtureRequest, main: Callable, data: Path, engine: str
) -> None:
    if engine == "openvino":
        request.getfixturevalue("needs_openvino")
    report = json.loads(main("extract", data, *LAYER, "--engine", engine, "--batch-size", "5", "--json").stdout)
    assert (report["engine"], report["batch_size"], report["note"]) == (engine, 5, "")
    assert set(report["waited"]) == {"prepare", "decode", "compute", "write"}
    # What is waited for is most of the time; the loop itself takes some, more on a busy machine.
    assert report["seconds"] / 2 - 0.1 < sum(report["waited"].values()) < report["seconds"] + 0.01


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_people_are_told_of_the_engine(request: pytest.FixtureRequest, main: Callable, data: Path, engine: str) -> None:
    if engine == "openvino":
        request.getfixturevalue("needs_openvino")
    said = main("extract", data, *LAYER, "--engine", engine, "--batch-size", "5", "--quiet")
    assert said.stderr == ""
    assert f"Engine {engine}, batches of 5" in said.stdout
    assert "Engine" not in main("extract", data, *LAYER, "--engine", engine).stdout  # nothing was computed


@pytest.fixture
def lacking(needs_openvino: None, tmp_path: Path) -> tuple[str, ...]:
    """The arguments for a net with an operation that OpenVINO does not know."""
    inputs = keras.Input((16, 16, 3))
    resize = keras.layers.Resizing(9, 9, interpolation="lanczos5", name="lanczos")
    keras.Model(inputs, resize(keras.layers.Conv2D(2, 3, name="conv")(inputs))).save(tmp_path / "net.keras")
    return "--net", "net.keras", "--layer", "lanczos"


def test_people_are_told_why_another_engine_was_used(main: Callable, data: Path, lacking: tuple[str, ...]) -> None:
    said = main("extract", data, *lacking)
    assert said.status == 0, said.stderr
    (note,) = [text for text in said.stdout.splitlines() if text.startswith("Note: ")]
    assert note.startswith("Note: OpenVINO cannot run net.keras (")
    assert note.endswith("; Keras runs it.")
    assert "Engine keras, batches of " in said.stdout


def test_a_net_that_openvino_cannot_run_is_refused_where_it_was_asked_for(
    main: Callable, data: Path, lacking: tuple[str, ...]
) -> None:
    said = main("extract", data, *lacking, "--engine", "openvino")
    assert (said.status, said.stdout) == (2, "")
    assert said.stderr.startswith("layertap: OpenVINO cannot run net.keras: ")
    assert said.stderr.endswith("; use --engine keras.\n")
    assert said.stderr.count("\n") == 1


def test_a_net_that_openvino_cannot_run_leaves_nothing(mistake: Callable, data: Path, lacking: tuple[str, ...]) -> None:
    mistake("extract", data, *lacking, "--engine", "openvino")


def test_an_engine_that_there_is_not(mistake: Callable, data: Path) -> None:
    line = mistake("extract", data, *LAYER, "--engine", "nonsense")
    assert "argument --engine: invalid choice: 'nonsense'" in line
    assert "openvino" in line


def test_a_net_that_only_tensorflow_converts_is_refused_before_another_backend_is_imported(
    layertap: Callable, data: Path, tmp_path: Path, lacking: tuple[str, ...]
) -> None:
    pytest.importorskip("openvino")
    done = layertap("extract", data, *lacking, "--engine", "openvino", cwd=tmp_path, KERAS_BACKEND="jax")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "layertap: OpenVINO cannot run net.keras: it is converted by way of TensorFlow, and the Keras backend is jax; "
        "use --engine keras.\n"
    )
    assert not list((tmp_path / "features").glob("*/*"))


def test_a_plan_takes_the_engine_too(main: Callable, mistake: Callable, data: Path) -> None:
    planned = json.loads(main("extract", data, *LAYER, "--engine", "keras", "--plan", "--json").stdout)
    assert planned["images_missing"] == 12
    assert "invalid choice: 'nonsense'" in mistake("extract", data, *LAYER, "--plan", "--engine", "nonsense")
