"""Recipes: the numbers that say how a net is fine-tuned; how many of its epochs are trained, `tuner` finds out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from feature_cache.errors import InvalidChoice


@dataclass(frozen=True)
class Recipe:
    """The numbers that fine-tuning depends on.

    Each step is one of AdamW (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"). The learning rate
    rises over the warm-up, and then falls as half a cosine to 0 (Loshchilov and Hutter 2017, "SGDR").

    Parameters
    ----------
    epochs : int
        The largest number of epochs, at least 1.
    batch_size : int
        The number of images in a step, at least 1.
    learning_rate : float
        The highest learning rate of the classifier, above 0 and at most 1000.
    earliest : float
        The share of the learning rate for the earliest trained layer, above 0 and at most 1. The rates of the layers
        between it and the classifier are in geometric progression.
    warmup : float
        The share of the steps in which the learning rate rises, from 0 to 0.9.
    weight_decay : float
        The weight decay of kernels, from 0 to 10; biases and normalisation have none.
    clip : float
        The largest norm of all gradients together, above 0.
    label_smoothing : float
        The share of each label that is given to all classes, at least 0 and below 1.
    patience : int
        The number of epochs after the warm-up without a lower log-loss on the images held out for early stopping, after
        which training stops. If it is as large as `epochs`, nothing ends a training early.
    inner : float
        The share of the training images held out for early stopping, from 0 to 0.9; with 0 there is none.
    refit : bool
        Train again on all training images, for the number of epochs that was chosen.
    lora : int
        The rank of the adapters that are trained in place of kernels (Hu et al. 2022, "LoRA"); 0 for none.
    seed : int
        The seed of the inner split, of the order of images, and of the choice of views.

    Raises
    ------
    InvalidChoice
        When a number is out of its range.

    Examples
    --------
    >>> recipe = Recipe(epochs=5, learning_rate=1e-3)
    >>> [round(recipe.rate(step, 10), 6) for step in (0, 1, 9)]
    [0.001, 0.001, 3e-05]
    >>> Recipe(earliest=0.25).shares(2)
    [0.25, 0.5]
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    earliest: float = 1.0
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
                raise InvalidChoice(f"`{name}` is {text}; received {value:g}.")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of the classifier in one of `steps` steps, which are numbered from 0."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    def shares(self, layers: int) -> list[float]:
        """The shares of the classifier's rate that a number of trained layers have, the earliest first."""
        return [self.earliest ** (1 - number / layers) for number in range(layers)]

    def as_dict(self) -> dict[str, Any]:
        """The numbers by their names, for JSON."""
        return asdict(self)
