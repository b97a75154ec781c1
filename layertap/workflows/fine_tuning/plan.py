"""The plan of a fine-tuning: the layer that is read, where the net is cut, and the network that is trained."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import StorageFailure
from feature_cache.files.checked import real_path
from feature_cache.process.keras_import import require_training
from heads.export import affine
from heads.registry import make_head
from heads.splitting.fit_groups import encode_groups, fit_params, inner_split
from heads.validation import finite
from layertap import runs
from layertap.progress import ProgressBar, no_progress
from layertap.units import size_text
from layertap.workflows.fine_tuning.layer_choice import candidate_layers, choose_layer
from layertap.workflows.fine_tuning.start import Start
from layertap.workflows.training.protocol_options import ProtocolOptions
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset, require_labels
from transfer.extraction.lookup import find_missing
from transfer.finetune.cut_choice import Cut, find_cut
from transfer.finetune.devices import share_steps
from transfer.finetune.recipe import Recipe
from transfer.finetune.tensorboard import TensorBoardLogs
from transfer.finetune.tuner import FineTuner
from transfer.request import FeatureRequest

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone

PURPOSE = "can be fine-tuned"  # what layers of Keras are needed for
DISK_FACTOR = 1.05  # files are a little larger than the numbers in them


@dataclass(frozen=True)
class Settings:
    """The options of a fine-tuning, besides the images and where it starts.

    Parameters
    ----------
    out : Path
        The folder of the run.
    cache : FeatureCache
        It keeps the features, and the activations of the frozen part.
    recipe : Recipe
        How the net is trained.
    protocol : ProtocolOptions
        How it is judged.
    unfreeze_from : str
        The first layer that is trained, by name or index; ``all``; or ``auto`` (see `find_cut`).
    prefix_cache : bool
        Keep the activations of the frozen part, so that it is computed once; otherwise every step computes them.
    compress : bool
        Compress what is kept.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    overwrite : bool
        Replace a run in `out`.
    tensorboard : bool
        Write logs for TensorBoard into the run.
    training : Path or None
        The folder that holds the checkpoints until the run is written, which other trainings may share; by default
        one beside `out`.
    """

    out: Path
    cache: FeatureCache
    recipe: Recipe = field(default_factory=Recipe)
    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    unfreeze_from: str = "auto"
    prefix_cache: bool = True
    compress: bool = False
    on_error: str = "fail"
    overwrite: bool = False
    tensorboard: bool = False
    training: Path | None = None

    @property
    def training_folder(self) -> Path:
        """The folder that holds the checkpoints until the run is written."""
        out = real_path(self.out)
        return real_path(self.training) if self.training else out.with_name(f"{out.name}.training")

    @property
    def logs_folder(self) -> Path:
        """The folder of the logs for TensorBoard until the run is written."""
        return self.training_folder / (f"tensorboard-{self.out.name}" if self.training else "tensorboard")


@dataclass(frozen=True)
class Plan:
    """What is about to be trained.

    Attributes
    ----------
    dataset : IdentifiedDataset
        All images, with their digests.
    start : Start
        Its request names the layer that the head reads.
    candidates : tuple of str
        The layers that it was chosen among.
    settings : Settings
    cut : Cut
        Where the net is cut.
    prefix : FeatureRequest or None
        The activations at the cut; None where the net is trained from the pixels on.
    tuner : FineTuner
        It holds the network, which is trained in place.
    logs : TensorBoardLogs or None
    """

    dataset: IdentifiedDataset
    start: Start
    candidates: tuple[str, ...]
    settings: Settings
    cut: Cut
    prefix: FeatureRequest | None
    tuner: FineTuner
    logs: TensorBoardLogs | None


def make_plan(dataset: Dataset, start: Start, settings: Settings, progress: ProgressBar = no_progress) -> Plan:
    """Check all that can be checked beforehand, cut the net, and build the network that is trained.

    Images are read only where there are several layers to choose among (see `choose_layer`).

    Raises
    ------
    InvalidChoice, BadData
        When options contradict each other, or do not go with the net or the data.
    MissingDependency
        When `tensorboard` is chosen, and not installed; or no backend of Keras is installed that trains.
    StorageFailure
        When the run cannot be written, or the disk is too small for the activations at the cut.
    LayertapError
        When the net cannot be built.
    """
    start.request.net.require_keras(PURPOSE)
    require_training()
    runs.check_free(settings.out, overwrite=settings.overwrite)
    _require_writable(settings.out)
    logs = TensorBoardLogs(settings.logs_folder) if settings.tensorboard else None
    labels = require_labels(dataset)
    protocol, alone = settings.protocol, np.arange(len(labels))
    protocol.protocol(dataset).divide(labels, protocol.split_groups(dataset, alone))
    share_steps()
    backbone = start.request.build_keras(PURPOSE)
    known = dataset.identify(settings.cache)
    candidates = candidate_layers(start.request, backbone, settings.unfreeze_from)
    start = _reading(start, candidates)
    start = _reading(start, (choose_layer(known, start, settings, progress),))
    [spec] = start.request.specs
    cut = find_cut(backbone, spec.layer, settings.unfreeze_from, keep=settings.prefix_cache)
    tuner = _make_tuner(start, settings, backbone, cut, len(np.unique(labels)))
    prefix = replace(start.request, layers=cut.layers, pooling="none", prefix_tokens=None) if cut.layers else None
    if prefix is not None:
        _require_space(known, prefix, cut, settings.cache)
    return Plan(known, start, candidates, settings, cut, prefix, tuner, logs)


def _reading(start: Start, layers: tuple[str, ...]) -> Start:
    """The same start, whose request names these layers."""
    return replace(start, request=replace(start.request, layers=layers))


def _require_writable(out: Path) -> None:
    """Raise StorageFailure where the run could not be written in the end."""
    try:
        real_path(out).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=real_path(out).parent):
            pass
    except OSError as error:
        raise StorageFailure(f"cannot write to {out}: {error.strerror or error}; choose another `out`.") from error


def _make_tuner(start: Start, settings: Settings, backbone: Backbone, cut: Cut, classes: int) -> FineTuner:
    """The network, with what trains it; its probe is the head of `start`."""
    from transfer.finetune.network import Network  # heavy: it imports Keras

    [spec] = start.request.specs
    [probe_spec] = start.probe_request.specs

    def probe(
        digests: np.ndarray, views: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        plain = views == 0
        rows, labels = settings.cache[probe_spec].rows(digests[plain]), labels[plain]
        head: Any = make_head(start.head, start.params)
        with finite(rows):
            fitted = affine(head.fit(rows[:], labels, **fit_params(head, encode_groups(groups[plain], labels))))
        return fitted.coef.T, fitted.intercept - fitted.coef @ fitted.centre

    def split(target: np.ndarray, share: float, seed: int, groups: np.ndarray) -> Any:
        return inner_split(target, share, seed, encode_groups(groups, target))

    network = Network(
        backbone,
        cut,
        spec.layer,
        spec.pooling_rule,
        spec.preprocessing,
        classes,
        settings.recipe,
        augments=spec.augmentation is not None,
    )
    key = f"{spec.to_json()} {start.head} {sorted(start.params.items())}"
    options: dict[str, Any] = {"views": start.request.views, "folder": settings.training_folder, "key": key}
    return FineTuner(network, probe, settings.recipe, split, **options)


def _require_space(dataset: IdentifiedDataset, request: FeatureRequest, cut: Cut, cache: FeatureCache) -> None:
    """Raise StorageFailure when the disk is too small for the activations at the cut."""
    missing = len(find_missing(dataset, request, cache).jobs)
    needed = DISK_FACTOR * missing * cut.width * np.dtype(request.dtype).itemsize
    place = next(folder for folder in (cache.root.absolute(), *cache.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageFailure(
            f"what is kept at the cut takes {size_text(needed)}, and {place} has {size_text(free)} left: choose "
            "another `cache`, `dtype='float16'`, a later `unfreeze_from`, or `prefix_cache=False`."
        )
