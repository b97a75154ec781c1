"""Which layer fine-tuning reads where none is named, or several are: the one whose features a head reads best."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import BadData
from heads.evaluation.cross_validation import choose
from heads.registry import make_head
from layertap.progress import ProgressBar, no_progress
from layertap.workflows.extract import extract_features
from layertap.workflows.training.copies import find_copies
from transfer.data.datasets import require_labels
from transfer.finetune.cut_choice import earlier_map

if TYPE_CHECKING:
    from layertap.workflows.fine_tuning.plan import Settings
    from layertap.workflows.fine_tuning.start import Start
    from transfer.data.dataset import IdentifiedDataset
    from transfer.nets.backbone import Backbone
    from transfer.request import FeatureRequest


def candidate_layers(request: FeatureRequest, backbone: Backbone, unfreeze_from: str) -> tuple[str, ...]:
    """The layers that fine-tuning may read: those that are named, or the customary one and an earlier map.

    Where `unfreeze_from` names a layer, which the earlier map may come before, it is the customary one alone.

    Examples
    --------
    >>> from transfer.nets.catalogue import Net
    >>> from transfer.request import FeatureRequest
    >>> request = FeatureRequest(Net("glyphnet"))
    >>> candidate_layers(request, request.build_keras("can be fine-tuned"), "auto")
    ('block4_pool', 'block3_conv2')
    """
    if request.layers:
        return tuple(dict.fromkeys(map(backbone.find, request.layers)))
    earlier = earlier_map(backbone, backbone.readout) if unfreeze_from in ("auto", "all") else None
    return (backbone.readout,) if earlier is None else (backbone.readout, earlier)


def choose_layer(
    dataset: IdentifiedDataset, start: Start, settings: Settings, progress: ProgressBar = no_progress
) -> str:
    """The layer of `start.request` on whose features its head is best, by folds of the images that train.

    The features that the cache lacks are extracted. The images that the first split holds out, and those of the test,
    play no part in the choice. Where there are too few others, it is the first layer.
    """
    [first, *others] = start.request.layers
    if not others:
        return first
    features = extract_features(
        dataset,
        start.probe_request,
        settings.cache,
        compress=settings.compress,
        on_error=settings.on_error,
        progress=progress,
    )
    dataset, options = features.dataset, settings.protocol
    labels = require_labels(dataset)
    groups = options.split_groups(dataset, find_copies(features, options.together, progress=progress).groups)
    train: np.ndarray = options.protocol(dataset).divide(labels, groups)[0][0][0]
    new_head: Any = partial(make_head, start.head, start.params)
    candidates = {spec.layer: rows for spec, rows in zip(features.specs, features.features.values(), strict=True)}
    try:
        return choose(candidates, labels, groups, train, new_head, options.seed).features
    except BadData:  # no class has two images
        return first
