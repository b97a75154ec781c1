"""Presets of KerasHub on the command line: their layers, features, heads and trainings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.terminals import on_a_terminal
from tests.transfer.hub_nets import hub, save_preset

BLOCK = "vit_encoder/transformer_block_2"
NET = ("--net", "hub:vit")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_preset("vit", tmp_path_factory.mktemp("presets") / "vit")


@pytest.fixture
def preset(saved: Path, tmp_path: Path) -> None:
    """A preset in the folder `vit`."""
    (tmp_path / "vit").symlink_to(saved)


def test_layers_extract_train_head_and_predict_take_a_folder(
    main: Callable, mistake: Callable[..., str], data: Path, preset: None
) -> None:
    listed = main("layers", "hub:vit", "--json")
    assert listed.status == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["layers"]}
    assert rows[BLOCK]["shape"] == [17, 16]
    assert f"{BLOCK}/mha/query" in rows

    assert "did you mean 'vit_encoder/transformer_block_2'" in mistake(
        "extract", "data", *NET, "--layer", "vit_encoder/transformer_block_3"
    )
    done = main("extract", "data", *NET, "--layer", BLOCK, "--pool", "cls+avg")
    assert "12 rows computed" in done.stdout
    assert "gets pixels as its image converter says: affine:0.01,0.02,0.03:-1.0,-2.0,-3.0" in done.stderr
    assert f"{BLOCK}: tokens that are taken as no patches, at the start: 1." in done.stderr

    head = ("--layer", BLOCK, "--pool", "cls+avg", "--head", "ridge", "--cv", "2", "--out", "run")
    done = main("train-head", "data", *NET, *head, "--json")
    assert done.status == 0, done.stderr
    done = main("predict", "run", "data", "--json")
    assert done.status == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    said = [max(one["probabilities"], key=one["probabilities"].get) for one in predictions]
    assert np.mean([one["id"].startswith(label) for one, label in zip(predictions, said, strict=True)]) > 0.8


def test_presets_are_listed_with_what_kerashub_says_of_them(main: Callable) -> None:
    listed = main("nets", "--hub", "--json")
    assert listed.status == 0, listed.stderr
    presets = {one["preset"]: one for one in json.loads(listed.stdout)["presets"]}
    about = hub.models.ViTBackbone.presets["vit_base_patch16_224_imagenet"]
    assert presets["vit_base_patch16_224_imagenet"]["parameters"] == about["metadata"]["params"]
    assert not any("bert" in one["backbone"].lower() for one in presets.values())  # of texts
    table = main("nets", "--hub").stdout
    assert all(f"hub:{name} " in table for name in presets)
    assert "hub:FOLDER" in table.splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_ends_inside_a_net_is_exported_too(main: Callable, data: Path, preset: None, tmp_path: Path) -> None:
    layers = ("--layer", BLOCK, "--unfreeze-from", BLOCK)
    short = ("--epochs", "1", "--inner", "0", "--valid", "0.3")
    done = main("fine-tune", "data", *NET, *layers, *short, "--out", "run")
    assert done.status == 0, done.stderr
    assert "The probabilities of model.keras differ by at most" in done.stdout
    assert (tmp_path / "run" / "model.keras").is_file()
    assert main("evaluate", "run", "data").status == 0
    for to, out in (("keras", "again.keras"), ("saved-model", "saved")):
        assert main("export", "run", "data", "--to", to, "--out", out).status == 0
    assert main("layers", "run").status == 0


@pytest.mark.slow
def test_a_run_of_layers_that_keras_cannot_save_says_so_and_what_is_left(
    main: Callable, mistake: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    save_preset("clip", tmp_path / "clip")
    inside = "clip_vision_encoder_encoder_block_1/layer_norm_1"  # after a function that Keras does not find by name
    short = ("--epochs", "1", "--inner", "0", "--valid", "0.3", "--out", "run")
    done = main("fine-tune", "data", "--net", "hub:clip", "--layer", inside, "--unfreeze-from", inside, *short)
    assert done.status == 0, done.stderr
    told, following = done.stdout.splitlines()[-2:]
    assert told.startswith("There is no model.keras: some layers of the net cannot be saved and loaded one by one.")
    assert following.endswith("layertap export run --to saved-model --out saved")
    said = mistake("export", "run", "data", "--to", "keras", "--out", "model.keras")
    assert said.startswith("the model is made of layers that Keras cannot save and load again one by one")
    assert said.endswith("use --to saved-model for this one.")


@pytest.mark.slow
def test_the_list_of_presets_fits_the_terminal() -> None:
    status, shown = on_a_terminal(["-m", "cli", "nets", "--hub"], 120)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()]
    of_table = [line for line in lines if line.startswith("hub:")]
    assert status == 0
    assert of_table
    assert max(map(len, of_table)) <= 120
    assert any(line.endswith(" ...") for line in of_table)
