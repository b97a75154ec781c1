"""Arguments of `layertap fine-tune`."""

from __future__ import annotations

import argparse

from layertap.commands.arguments import heads
from transfer.finetune.recipe import Recipe


def add(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("what is trained")
    group.add_argument(
        "--from-head",
        metavar="RUN",
        help="start from the features and the head of this run, not those named above",
    )
    group.add_argument(
        "--unfreeze-from",
        default="auto",
        metavar="LAYER",
        help="train this layer, by name or index, and all after it; or all; or auto, the last that make up 30 %% "
        "of the operations (default: auto)",
    )
    group.add_argument("--lora", type=int, default=0, metavar="RANK", help="train low-rank adapters of kernels instead")
    group.add_argument(
        "--no-prefix-cache", action="store_true", help="keep nothing: compute the frozen part in every step"
    )
    group.add_argument("--compress", action="store_true", help="compress what is kept of the frozen part")
    group = sub.add_argument_group("how")
    for name, text in (
        ("epochs", "at most so many"),
        ("batch_size", "images a step"),
        ("learning_rate", "the highest, of the classifier"),
        ("earliest", "share of it for the earliest trained layer"),
        ("warmup", "share of the steps in which it rises"),
        ("weight_decay", "of kernels"),
        ("clip", "largest norm of the gradients"),
        ("label_smoothing", "share of each label given to all classes"),
        ("patience", "epochs with a higher loss on inner rows before it stops"),
        ("inner", "share of the training images held out for that"),
    ):
        default = getattr(Recipe, name)
        kind, option = type(default), f"--{name.replace('_', '-')}"
        metavar = "N" if kind is int else "F"
        group.add_argument(option, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})")
    group.add_argument(
        "--no-refit", action="store_true", help="do not train again on all images once the number of epochs is chosen"
    )
    group.add_argument("--tensorboard", action="store_true", help="write logs for TensorBoard into the run")
    group = sub.add_argument_group("protocol and result")
    heads.add_protocol(group)
    group.add_argument("--test", type=float, metavar="F", help="set a share F aside, scored once at the end")
    group.add_argument("--out", required=True, metavar="RUN", help="run folder to write")
    group.add_argument("--overwrite", action="store_true", help="replace a run that is there")
