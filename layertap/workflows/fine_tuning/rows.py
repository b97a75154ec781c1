"""The rows that a net is fine-tuned on, once the cache holds all of them, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.joined import Joined
from heads.evaluation.protocol import Protocol
from heads.splitting.splits import Split
from layertap import runs
from layertap.progress import ProgressBar, no_progress
from layertap.workflows.extract import extract_features
from layertap.workflows.fine_tuning.plan import Plan
from layertap.workflows.training.copies import find_copies, identify, seen_warnings
from layertap.workflows.training.protocol_options import parted_notes, training_only_notes
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import require_labels
from transfer.extraction.feature_set import FeatureSet
from transfer.finetune.pixel_rows import PixelRows
from transfer.nets.suggestion import remarks_of
from transfer.request import FeatureRequest


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What a net is trained and judged on.

    Attributes
    ----------
    features : FeatureSet
        The features of the plain images that the probe reads; the other arrays are in the order of its data set.
    rows : Features, Joined or PixelRows
        A lazy array with a row for each view of each image: the activations at the cut, or the pixels.
    labels : ndarray of shape (n,), str
    protocol : Protocol
    groups : ndarray of shape (n,)
        Equal for images that stay on one side of every split.
    splits : list of (train, held out)
        Positions of images.
    kept : ndarray of int
        The positions of the images that the net which is kept is trained on.
    test : ndarray of int
        The positions of the images that are scored once, in the end; there may be none.
    identities : ndarray of shape (n, k, 16), uint8
        What each image is recognised by (see `transfer.data.copies.pixel_digests.identity_digests`).
    seen : frozenset of bytes
        What the images are recognised by that the net was trained on before.
    notes, warnings : tuple of str
        Sentences about the images and their splits, and about scores that say little.
    """

    features: FeatureSet
    rows: Any
    labels: np.ndarray
    protocol: Protocol
    groups: np.ndarray
    splits: list[Split]
    kept: np.ndarray
    test: np.ndarray
    identities: np.ndarray
    seen: frozenset[bytes]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def trained_on(self) -> np.ndarray:
        """The identities of the images that the net which is kept was trained on, of shape (m, k, 16), uint8."""
        return self.identities[self.kept]


def collect_rows(plan: Plan, progress: ProgressBar = no_progress) -> TrainingRows:
    """Extract what the cache lacks, and split the images.

    Parameters
    ----------
    plan : Plan
    progress : callable, optional
        Given what is counted, a context manager that gives a callable of (done, total).

    Raises
    ------
    BadImage
        For an unreadable image, unless they are skipped.
    BadData, InvalidChoice
        When the images that can be read cannot be split so.
    LayertapError
        When features cannot be computed or stored.
    """
    of_nets, assumed = remarks_of([plan.start.request.net])
    features, notes = _extracted(plan, plan.dataset, plan.start.probe_request, progress)
    if plan.prefix is None:
        [plain] = features.features.values()
        rows: Any = PixelRows(features.dataset, plan.start.request, plain.keys()[0])
    else:
        prefix, more = _extracted(plan, features.dataset, plan.prefix, progress)
        notes += more
        parts = list(prefix.features.values())
        rows = parts[0] if len(parts) == 1 else Joined(parts)
    labels, options = require_labels(features.dataset), plan.settings.protocol
    protocol = options.protocol(features.dataset)
    copies = find_copies(features, options.together, labels, progress)
    groups = options.split_groups(features.dataset, copies.groups)
    splits, fitted, test = protocol.divide(labels, groups)
    kept = fitted if len(splits) > 1 or plan.settings.recipe.refit else splits[0][0]
    seen = runs.seen_by([plan.start.request.net])
    identities = identify(features, progress)
    return TrainingRows(
        features,
        rows,
        labels,
        protocol,
        groups,
        splits,
        kept,
        test,
        identities,
        seen,
        tuple(dict.fromkeys((*of_nets, *notes)))
        + copies.notes
        + parted_notes(protocol, groups)
        + training_only_notes(labels, splits),
        (*assumed, *seen_warnings(seen, identities, splits, test)),
    )


def _extracted(
    plan: Plan, dataset: IdentifiedDataset, request: FeatureRequest, progress: ProgressBar
) -> tuple[FeatureSet, tuple[str, ...]]:
    """The features of a request, once the cache holds them, and notes about the images."""
    settings = plan.settings
    features = extract_features(
        dataset, request, settings.cache, compress=settings.compress, on_error=settings.on_error, progress=progress
    )
    return features, tuple(features.report.remarks) if features.report else ()
