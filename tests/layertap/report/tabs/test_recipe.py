"""The recipe of a run makes it again."""

from __future__ import annotations

from typing import Any

import pytest

from feature_cache.spec import FeatureSpec
from layertap.report.tabs.recipe import recipe_view
from layertap.run_config import FeatureSource, HeadConfig, RunConfig, TaskConfig
from transfer.finetune.recipe import Recipe

NET = {"name": "vgg16", "weights": None, "seed": 0, "preprocessing": None}
SPEC: dict[str, Any] = {"net": "vgg16", "weights": "imagenet", "layer": "block5_pool", "size": (224, 224)}


def config(spec: dict[str, Any] | None = None, net: Any = NET, **changes: Any) -> RunConfig:
    parts = (FeatureSource(FeatureSpec(**{**SPEC, **(spec or {})}), net),)
    rest: dict[str, Any] = {"head": HeadConfig("ridge", {}), "data": {"options": {"source": "photos"}}}
    return RunConfig(parts, **{**rest, **changes})


@pytest.mark.parametrize(
    ("made", "command"),
    [
        (config(protocol={"cv": 5, "draws": 20, "seed": 0}), "--net vgg16 --layer block5_pool --head ridge --cv 5"),
        (
            config({"pooling": "max", "size": (96, 64)}, protocol={"per_class": 3, "draws": 7, "seed": 2}),
            "--net vgg16 --pool max --size 96x64 --layer block5_pool --head ridge --per-class 3 --draws 7 --seed 2",
        ),
        (
            config(task=TaskConfig("regression", ("a b", "c")), protocol={"valid": 0.2, "given": "fold"}),
            "--net vgg16 --layer block5_pool --head ridge --regression 'a b,c' --valid 0.2 --splits fold",
        ),
        (
            config(
                head=HeadConfig("logistic", {"C": 0.5, "calibrate": True}), candidates=("block4_pool", "block5_pool")
            ),
            "--net vgg16 --layer block4_pool --layer block5_pool --head logistic --param C=0.5 --param calibrate=true",
        ),
    ],
    ids=["folds", "few labels", "numbers", "layers"],
)
def test_options_are_those_that_were_set(made: RunConfig, command: str) -> None:
    assert recipe_view(made, {})["command"] == f"layertap train-head photos {command} --out again"


def test_names_are_quoted_and_images_in_memory_have_none() -> None:
    hostile = "it's; rm -rf $HOME"
    view = recipe_view(config(data={"options": {"source": hostile, "split": "train"}}), {})
    assert """layertap train-head 'it'"'"'s; rm -rf $HOME' --split train --net""" in view["command"]
    assert f"data = lt.load_dataset({hostile!r}, split='train')" in view["python"]
    assert "lt.load_dataset(...)" in "".join(recipe_view(config(data={}), {})["python"])


def test_what_one_command_cannot_say_has_no_recipe() -> None:
    one, other = config().parts[0], config({"layer": "pool"}, {**NET, "name": "vgg19"}).parts[0]
    assert recipe_view(RunConfig((one, other), HeadConfig("ridge", {})), {})["command"] == ""
    joined = recipe_view(RunConfig((one, config({"layer": "block4_pool"}).parts[0]), HeadConfig("ridge", {})), {})
    assert "--layer block5_pool --layer block4_pool --head ridge --join" in joined["command"]


def test_a_net_that_was_fine_tuned_says_how() -> None:
    tuned = {
        "net": NET,
        "probe": {"name": "ridge", "params": {}},
        "trained": ["block5_conv1", "block5_conv2"],
        "cut": ["block4_pool"],
        "epochs": 4,
        "recipe": Recipe(epochs=8, learning_rate=2e-4, earliest=0.1, refit=False, seed=3).as_dict(),
        "augmentation": "v1:flip,rotate=15,seed=3",
        "views": 4,
    }
    view = recipe_view(config(head=HeadConfig("linear", {}), fine_tuned=tuned, protocol={"cv": 2, "seed": 3}), {})
    assert view["command"] == (
        "layertap fine-tune photos --net vgg16 --views 4 --augment flip,rotate=15 --seed 3 --layer block5_pool "
        "--unfreeze-from block5_conv1 --epochs 8 --learning-rate 0.0002 --earliest 0.1 --no-refit --cv 2 "
        "--out again"
    )
    assert ("Highest learning rate", "0.0002 for the classifier, 2e-05 for the earliest layer") in view["tuned"]
    assert ("Epochs", "4 of 8 at most, chosen by images held out") in view["tuned"]
