"""Recipes: how a net is fine-tuned."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from feature_cache.errors import InvalidChoice


@dataclass(frozen=True)
class Recipe:
    """Numbers that fine-tuning depends on.

    Steps are AdamW's (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"), with a learning rate that
    rises over the warm-up and then falls as half a cosine to 0 (Loshchilov and Hutter 2017, "SGDR").

    Parameters
    ----------
    epochs : int
    batch_size : int
    learning_rate : float
        The highest, of the classifier.
    earliest : float
        The earliest trained layer learns at this share of it, those between at rates in geometric progression.
    warmup : float
        Share of the steps.
    weight_decay : float
        Of kernels alone.
    clip : float
        The largest norm of all gradients together.
    label_smoothing : float
    patience : int
        Epochs with a log-loss on the inner rows that is above the lowest by more than its error, after which training
        stops.
    inner : float
        Share of the training images held out for that; 0 for none.
    refit : bool
        Once the number of epochs is chosen, train again on all training images for so many.
    lora : int
        Rank of the adapters that are trained in place of kernels (Hu et al. 2022, "LoRA"); 0 for none.
    seed : int
        Of the inner split, the order of images, and the views.

    Raises
    ------
    InvalidChoice
        When one is out of its range.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-4
    earliest: float = 0.3
    warmup: float = 0.1
    weight_decay: float = 1e-4
    clip: float = 1.0
    label_smoothing: float = 0.0
    patience: int = 5
    inner: float = 0.15
    refit: bool = True
    lora: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (1, math.inf, "at least 1"),
            "batch_size": (1, math.inf, "at least 1"),
            "learning_rate": (1e-12, 1e3, "above 0 and at most 1000"),
            "earliest": (1e-6, 1, "above 0 and at most 1"),
            "warmup": (0, 0.9, "from 0 to 0.9"),
            "weight_decay": (0, 10, "from 0 to 10"),
            "clip": (1e-9, math.inf, "above 0"),
            "label_smoothing": (0, 0.99, "at least 0 and below 1"),
            "patience": (1, math.inf, "at least 1"),
            "inner": (0, 0.9, "from 0 to 0.9"),
            "lora": (0, 4096, "from 0 to 4096"),
        }
        for name, (least, most, text) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidChoice(f"--{name.replace('_', '-')} is {text}; received {value:g}.")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of the classifier in step number `step`, from 0, of `steps`."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    def shares(self, layers: int) -> list[float]:
        """What share of the classifier's rate each of so many trained layers has, the earliest first."""
        return [self.earliest ** (1 - number / layers) for number in range(layers)]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
