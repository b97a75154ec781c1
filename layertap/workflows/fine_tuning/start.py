"""Where fine-tuning starts: features, and a linear head that reads those of one layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from feature_cache.errors import InvalidChoice
from heads.export import affine
from heads.registry import seeded
from layertap.runs import Run
from layertap.workflows.training.targets import CLASSES
from transfer.request import FeatureRequest, request_for


@dataclass(frozen=True)
class Start:
    """The features and the head that fine-tuning starts from.

    Attributes
    ----------
    request : FeatureRequest
        The features, with the views that the net is trained on; of one layer, once it is chosen (see `choose_layer`).
    head : str
        The name of the head (see `heads.HEADS`).
    params : dict of str to Any
        The parameters of the head.
    """

    request: FeatureRequest
    head: str
    params: dict[str, Any]

    @property
    def probe_request(self) -> FeatureRequest:
        """The features that the head is fitted on: those of the plain images."""
        return replace(self.request, augmentation=None, views=1, dtype="float32")


def start_from_features(request: FeatureRequest, seed: int = 0) -> Start:
    """Start from features, and a ridge classifier that is fitted on them.

    Raises
    ------
    InvalidChoice
        When the features are a shrunk copy of others.
    """
    _require_full(request)
    return Start(request, "ridge", seeded("ridge", {}, seed))


def start_from_run(run: Run, *, views: int = 1, augmentation: str | None = None) -> Start:
    """Start from the features and the kind of head of a run; the head is fitted again, on each training part.

    Parameters
    ----------
    run : Run
    views, augmentation
        The views that the net is trained on (see `FeatureRequest`); the run's own are not used.

    Raises
    ------
    InvalidChoice
        When the head of the run is not a linear classifier of one layer.
    """
    if run.task.name != CLASSES:
        raise InvalidChoice(f"the run {run.folder} is one of {run.task.name}; fine-tuning starts from classes.")
    if len(run.parts) > 1:
        raise InvalidChoice(f"the run {run.folder} joins several features; fine-tuning starts from one layer.")
    affine(run.head)  # it names the heads that can be part of a net
    request = request_for(replace(run.spec, augmentation=None), run.nets[0])
    _require_full(request)
    request = replace(request, augmentation=augmentation, views=views)
    return Start(request, run.config.head.name, dict(run.config.head.params))


def _require_full(request: FeatureRequest) -> None:
    """Raise InvalidChoice for a shrunk copy of features, and for those of a net that is not the one to be trained."""
    if request.coding is not None:
        raise InvalidChoice("fine-tuning cannot start from a shrunk copy of features; name the full ones.")
    if request.precision == "int8":
        raise InvalidChoice("fine-tuning cannot start from features in int8; use `precision='float32'`.")
    if request.net.is_code and request.net.of_user.needs_code:
        raise InvalidChoice(
            f"{request.net.name} returns a net with layers or functions of its own, which the file of a fine-tuned net "
            "cannot hold; fine-tuning takes nets of Keras's own layers."
        )
