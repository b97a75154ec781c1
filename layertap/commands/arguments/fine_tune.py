"""Arguments of `layertap fine-tune`."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import heads, protocol
from transfer.finetune.recipe import Recipe

# What `--help` says of the parameters of a recipe.
RECIPE = {
    "epochs": "largest number of epochs; how many are trained is chosen on inner images",
    "batch_size": "number of images in a step",
    "learning_rate": "highest learning rate, that of the classifier",
    "earliest": "learning rate of the earliest trained layer, as a share of the highest",
    "warmup": "share of the steps in which the learning rate rises",
    "weight_decay": "weight decay of kernels",
    "clip": "largest norm of the gradients",
    "label_smoothing": "share of each label that is given to all classes",
    "patience": "number of epochs after the warm-up without a lower loss on inner images after which training stops",
    "inner": "share of the training images held out for early stopping",
}


def add(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("trained layers")
    group.add_argument(
        "--from-head",
        metavar="RUN",
        help="start from the features and the head of this run, instead of those named above",
    )
    group.add_argument(
        "--unfreeze-from",
        default="auto",
        metavar="LAYER",
        help="train this layer, by name or index, and all after it; or all; or auto: the last layers with 60 %% of the "
        "operations (default: auto)",
    )
    group.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="train low-rank adapters of kernels instead of the kernels"
    )
    group.add_argument(
        "--no-prefix-cache",
        action="store_true",
        help="store no outputs of the frozen layers: compute them again in every step",
    )
    group.add_argument("--compress", action="store_true", help="compress the stored outputs of the frozen layers")
    group = sub.add_argument_group("training")
    for name, text in RECIPE.items():
        default = getattr(Recipe, name)
        kind, option = type(default), f"--{name.replace('_', '-')}"
        metavar = "N" if kind is int else "F"
        group.add_argument(option, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})")
    group.add_argument(
        "--no-refit", action="store_true", help="do not train again on all images once the number of epochs is chosen"
    )
    group.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into the run")
    protocol.add(sub)
    protocol.add_test(sub)
    heads.add_out(sub)
