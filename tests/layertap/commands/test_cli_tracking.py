"""Runs go to MLflow's files and to TensorBoard's logs, and are read from there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import layertap as lt

EPOCHS = [
    {"epoch": 0, "valid_loss": 0.5, "steps": 1},
    {"epoch": 1, "valid_loss": 0.25, "steps": 1},
    {"epoch": 2, "valid_loss": float("nan"), "steps": 1},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> lt.Run:
    """A run with the epochs of a fine-tuning among its scores."""
    folder = tmp_path_factory.mktemp("tracked")
    features = lt.extract("digits", "glyphnet", layers="block4_pool", cache=folder / "features", progress=False)
    run = lt.train_head("digits", features, "ridge", cv=3, out=folder / "first", progress=False)
    run.metrics["trainings"] = [{"stages": [EPOCHS]}]
    return run


def test_mlflow_has_the_scores_the_configuration_and_the_files(
    run: lt.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    store = (tmp_path / "runs").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    where = lt.track(run, "mlflow")
    client = mlflow.MlflowClient(store)
    [found] = client.search_runs(["0"])
    assert found.info.run_id in where and found.info.run_name == "first"
    assert found.data.metrics["valid/accuracy"] == run.scores["accuracy"].mean
    assert found.data.metrics["valid/accuracy_std"] == run.scores["accuracy"].std
    losses = client.get_metric_history(found.info.run_id, "training 1/valid_loss")
    assert [(loss.step, loss.value) for loss in losses] == [(0, 0.5), (1, 0.25)]
    assert found.data.params["head.name"] == "ridge" and found.data.params["spec.layer"] == "block4_pool"
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"report.html", "config.json", "confusion.png"} <= files


def test_tensorboard_has_them_in_the_folder_of_the_run(run: lt.Run) -> None:
    read = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # the second time replaces the first
        assert str(run.folder) in lt.track(run, "tensorboard")
    logs = read.EventAccumulator(f"{run.folder}/tensorboard/scores").Reload()
    [accuracy] = logs.Scalars("valid/accuracy")
    assert accuracy.value == pytest.approx(run.scores["accuracy"].mean)
    assert [(event.step, event.value) for event in logs.Scalars("training 1/valid_loss")] == [(0, 0.5), (1, 0.25)]
    assert "pictures/confusion" in logs.Tags()["images"]
    [table] = logs.Tensors("configuration")
    assert b"| head.name | ridge |" in table.tensor_proto.string_val[0]
    assert lt.load_run(run.folder).scores == run.scores  # the run is as it was


@pytest.mark.slow
def test_wandb_has_them_without_a_network(run: lt.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    where = Path(lt.track(run, "wandb"))
    assert list(where.rglob("confusion*.png"))
    assert list(where.parent.glob("*.wandb"))


def test_what_is_not_there_is_told_before_anything_is_computed(
    main: Callable, mistake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    failed = main("train-head", "digits", "--tracking", "mlflow")
    assert failed.status == 1
    assert failed.stderr == (
        "layertap: no MLflow server answers at http://127.0.0.1:9 ($MLFLOW_TRACKING_URI); --tracking needs one.\n"
    )
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for command in ("train-head", "fine-tune"):
        assert "pip install 'layertap[mlflow]'" in mistake(command, "digits", "--tracking", "mlflow")


@pytest.mark.parametrize("server", [False, True])
def test_a_run_by_code_of_the_users_is_tracked_and_its_scores_are_printed_whether_or_not(
    server: bool, main: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "mine.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n\ndef make():\n    return LogisticRegression()\n"
    )
    monkeypatch.chdir(tmp_path)
    if not server:
        monkeypatch.setattr("layertap.tracking.to_tensorboard.log", lambda record: 1 / 0)
    done = main("train-head", "digits", "--head", "mine.py:make", "--cv", "3", "--tracking", "tensorboard", "--json")
    written = json.loads(done.stdout)
    assert written["summary"]["valid"]["accuracy"]["mean"] > 0.9
    assert done.status == (0 if server else 1)
    assert written["tracked"] == ("run/tensorboard (tensorboard --logdir run)" if server else "")
    assert server or "run is written, but tensorboard did not take it (division by zero)" in done.stderr


def test_a_password_of_a_server_is_not_printed(main: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@127.0.0.1:9")
    failed = main("train-head", "digits", "--tracking", "mlflow")
    assert failed.status == 1 and "no MLflow server answers at http://127.0.0.1:9" in failed.stderr
    assert "geheim" not in failed.stderr


def test_a_run_that_was_not_written_is_not_tracked(run: lt.Run) -> None:
    with pytest.raises(lt.LayertapError, match="once it is written"):
        lt.track(lt.Run(None, run.config, run.head), "tensorboard")
    with pytest.raises(lt.LayertapError, match="did you mean 'mlflow'"):
        lt.track(run, "mlfow")  # type: ignore[arg-type]
