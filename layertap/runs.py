"""Runs: the folder that training leaves behind. This module puts the files of such a folder together.

config.json     how the run was made (see `RunConfig`), and the digests of the other files
metrics.json    the scores of every split and fold
head.npz, head.skops, or head.keras with classes.npy
                the fitted head, by the kind of head (see `heads.storage` and `heads.neural`)
held-out.npz    what was predicted of the images that were held out (see `layertap.held_out`)
head-images.npy the digests of the images that the head, or the net below it, was trained on
net-images.npy  the digests of the images that the net was trained on, where one was fine-tuned
skipped.csv     the images that were left out, where there are some
and pictures, a report and, of a fine-tuned net, its weights
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import layertap
from feature_cache.errors import LONGEST, DamagedFile, InvalidChoice, UnsafeFile, one_line
from feature_cache.files import atomic, sealed_folder
from feature_cache.files.checked import read_json
from feature_cache.files.digest_list import read_digests, write_digests
from feature_cache.files.neighbours import suggestion
from feature_cache.lineage import Used, cite
from feature_cache.spec import FeatureSpec
from heads import user_code
from heads.evaluation.views import Views
from heads.registry import Head, make_head, new_head
from layertap.held_out import HeldOut, read_held_out
from layertap.report.run_report import run_fragment
from layertap.run_config import (
    CONFIG_FILE,
    MOST_PARTS,
    FeatureSource,
    HeadConfig,
    RunConfig,
    TaskConfig,
    as_object,
    read_config,
    unreadable,
)
from layertap.shown_scores import HEADLINES
from transfer.data.transforms import named_for
from transfer.nets.catalogue import NETS, Net, net_from_config
from transfer.nets.user_nets import is_code, named_again

if TYPE_CHECKING:
    from layertap.results import Evaluation, Exported, Predictions
    from transfer.data.datasets import Unreadable

DEFECT = "defect"  # what an anomaly is called in predictions
METRICS_FILE, SKIPPED_FILE = "metrics.json", "skipped.csv"
HEAD_IMAGES, NET_IMAGES = "head-images.npy", "net-images.npy"


@dataclass(frozen=True)
class Score:
    """The mean of a score over the splits, and its standard deviation; None where no split defines it."""

    mean: float | None
    std: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "-"
        return f"{self.mean:.4f} ± {self.std:.4f}" if self.std else f"{self.mean:.4f}"


@dataclass(frozen=True)
class TrainingReport:
    """What a training reports beside the run itself.

    Attributes
    ----------
    features : str
        The name of the features that the head reads.
    params : dict
        The parameters of a grid that were chosen, as they were written.
    images : int
        How many images there are, those of the test included.
    skipped : tuple of Unreadable
        The images that were left out.
    notes, warnings : tuple of str
        Sentences about the data, and about scores that are too good to be relied on.
    tried : str
        A sentence about what was tried, where no head was named; otherwise it is empty.
    """

    features: str
    params: dict[str, Any]
    images: int
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tried: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A trained head, the features that it reads, and its scores.

    Attributes
    ----------
    folder : Path or None
        Where the run is; None where it was not written.
    config : RunConfig
    head : Head
        The fitted head, a classifier or regressor by scikit-learn's rules.
    report : TrainingReport or None
        What the training reported; None where the run was read from its folder.
    unsaved_metrics : dict, optional
        The content of `metrics.json`, of a run that was not written.
    unsaved_held_out : HeldOut, optional
        The predictions for the images held out, of a run that was not written.
    net_code : tuple of str
        The functions that make nets of the run and that the user has named, as ``FILE.py:make_net``.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head("digits", features, "ridge", cv=3, progress=False)
    >>> run  # doctest: +ELLIPSIS
    <Run not written: ridge on glyphnet/block4_pool, 10 classes; accuracy 0.9..., nll ...>
    >>> len(run.classes), run.scores["accuracy"].mean > 0.9
    (10, True)
    """

    folder: Path | None
    config: RunConfig
    head: Head
    report: TrainingReport | None = None
    unsaved_metrics: dict[str, Any] | None = None
    net_code: tuple[str, ...] = ()
    unsaved_held_out: HeldOut | None = None
    _place: Path | None = field(init=False, default=None)  # the folder, also after a change of the working folder

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", None if self.folder is None else self.folder.absolute())

    @property
    def parts(self) -> tuple[FeatureSource, ...]:
        """The features that the head reads side by side."""
        return self.config.parts

    @property
    def spec(self) -> FeatureSpec:
        """The spec of the features that the head reads; of the first ones, where there are several side by side."""
        return self.parts[0].spec

    @property
    def views(self) -> Views:
        """How many views of each image the head was trained on, and whether it predicts by their mean."""
        return self.config.views or Views()

    @property
    def task(self) -> TaskConfig:
        """What the head predicts."""
        return self.config.task or TaskConfig()

    @property
    def nets(self) -> list[Net]:
        """The net of each of the `parts`.

        Raises
        ------
        DamagedFile, InvalidChoice
            When the run does not say which net it is, or the net's file is gone.
        """
        return [net_from_config(net, self._place, self.net_code) for _, net in self.parts]

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the classes, the labels or the numbers that the head predicts, or of both kinds of images."""
        if self.task.name == "anomalies":
            return (*self.task.labels, DEFECT)
        if self.task.name == "regression":
            return self.task.columns
        return self.task.labels if self.task.name == "multilabel" else tuple(self.head.classes_.tolist())

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes or labels; empty where the head predicts numbers."""
        return () if self.task.name == "regression" else self.targets

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All scores, as `metrics.json` holds them.

        Raises
        ------
        DamagedFile
            When the file cannot be read.
        """
        if self._place is None or self.unsaved_metrics is not None:
            return self.unsaved_metrics or {}
        file = self._place / METRICS_FILE
        try:
            return as_object(read_json(file), METRICS_FILE)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise DamagedFile(f"{file} cannot be read ({reason}); train again.") from error

    @cached_property
    def held_out(self) -> HeldOut | None:
        """What was predicted of the images held out; None for a run that an earlier version of Layertap wrote.

        Raises
        ------
        DamagedFile
            When the file cannot be read.
        """
        if self._place is None:
            return self.unsaved_held_out
        return read_held_out(self._place)

    @property
    def scores(self) -> dict[str, Score]:
        """Every score of the images held out: ``run.scores["accuracy"].mean``."""
        summary = self._summary.get("valid", {})
        return {name: Score(value.get("mean"), value.get("std")) for name, value in summary.items()}

    @property
    def _summary(self) -> dict[str, dict[str, Any]]:
        """The means over the splits by part; empty where `metrics.json` holds something else."""
        summary = self.metrics.get("summary")
        parts = summary.items() if isinstance(summary, dict) else ()
        return {
            part: {name: value for name, value in scores.items() if isinstance(value, dict)}
            for part, scores in parts
            if isinstance(scores, dict)
        }

    @property
    def trained_on(self) -> frozenset[bytes]:
        """What the images are recognised by that the head, or the net below it, was trained on."""
        return frozenset() if self._place is None else read_digests(self._place / HEAD_IMAGES)

    # The methods below go by the package, whose names are imported when they are used: workflows import this module.
    def predict(self, images: Any, **options: Any) -> Predictions:
        """What this run predicts of images, once the features that the cache lacks are computed.

        Parameters
        ----------
        images : Dataset, or what `layertap.load_dataset` takes
            Image files, or one data set.
        options
            Those of `layertap.predict`: ``cache``, ``on_error`` and ``progress``.
        """
        return layertap.predict(self, images, **options)

    def evaluate(self, data: Any, **options: Any) -> Evaluation:
        """The scores of this run on labelled images, once the features that the cache lacks are computed.

        Parameters
        ----------
        data : Dataset, or what `layertap.load_dataset` takes
        options
            Those of `layertap.evaluate`: ``cache``, ``on_error`` and ``progress``.
        """
        return layertap.evaluate(self, data, **options)

    def export(self, out: str | Path, **options: Any) -> Exported:
        """Write this run as one model, from pixels to probabilities.

        Parameters
        ----------
        out : str or Path
            The file or folder to write.
        options
            Those of `layertap.export`: ``to``, ``data`` and ``overwrite``.
        """
        return layertap.export(self, out, **options)

    def __repr__(self) -> str:
        scores: list[str] = []
        with contextlib.suppress(DamagedFile):  # a run whose scores are lost can still predict
            scores += [f"{name} {self.scores[name]}" for name in HEADLINES[self.task.name] if name in self.scores]
        features = " + ".join(f"{spec.net}/{spec.layer}" for spec, _ in self.parts)
        where = "not written" if self.folder is None else str(self.folder)
        targets = f"{len(self.targets)} {'numbers' if self.task.name == 'regression' else self.task.name}"
        if self.task.name == "anomalies":
            targets = f"anomalies among {', '.join(self.task.labels)}"
        if self.task.name == "multilabel":
            targets = f"{len(self.targets)} labels"
        return f"<Run {where}: {self.config.head.name} on {features}, {targets}; {', '.join(scores) or 'no scores'}>"

    def _repr_html_(self) -> str:
        summary: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(DamagedFile):
            summary = {**self._summary, **({"test": self.metrics["test"]} if "test" in self.metrics else {})}
        pictures = sorted(self.folder.glob("*.png")) if self.folder else []
        return run_fragment(repr(self).strip("<>"), summary, {file.stem.capitalize(): file for file in pictures})


@contextlib.contextmanager
def new_run(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends well and vanishes when it does not.

    Raises
    ------
    InvalidChoice
        When `folder` exists, unless it is a run and `overwrite` is set.
    StorageFailure
        When it cannot be made.
    """
    with atomic.whole_folder(folder, "run", is_run, overwrite=overwrite) as unfinished:
        yield unfinished


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise InvalidChoice when a run cannot be written to `folder`."""
    atomic.check_free(folder, "run", is_run, overwrite=overwrite)


def is_run(folder: Path) -> bool:
    """Whether `folder` holds what looks like a run, which may be damaged otherwise."""
    with contextlib.suppress(OSError, ValueError, MemoryError):
        content = read_json(folder / CONFIG_FILE)
        return isinstance(content, dict) and {"format", "spec", "head"} <= content.keys()
    return False


def write(
    folder: Path,
    head: Head,
    config: RunConfig,
    metrics: dict[str, Any],
    images: Set[bytes] = frozenset(),
    net_images: Set[bytes] = frozenset(),
    *,
    held_out: HeldOut | None = None,
) -> None:
    """Write a run into `folder`, which holds the files of its net by now, if one was fine-tuned.

    Parameters
    ----------
    images, net_images : set of bytes
        Digests of the images that the head, and the net below it, were trained on.
    held_out : HeldOut, optional
        What was predicted of the images held out.

    Raises
    ------
    InvalidChoice
        When the head reads more features side by side than `load_run` takes.
    """
    if len(config.parts) > MOST_PARTS:
        raise InvalidChoice(f"a head reads up to {MOST_PARTS} features side by side; join fewer.")
    head.save(folder)
    if held_out:
        held_out.write(folder)
    write_digests(folder / HEAD_IMAGES, images)
    write_digests(folder / NET_IMAGES, net_images)
    sealed_folder.seal(folder, CONFIG_FILE, config.to_json())
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_skipped(folder: Path, skipped: Sequence[Unreadable]) -> None:
    """List the images that were left out, if there are any, with the reasons."""
    if not skipped:
        return
    with (folder / SKIPPED_FILE).open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "reason"])
        writer.writerows((image.id, image.reason) for image in skipped)


def record_use(folder: Path, cache_root: Path, rows: Iterable[Used]) -> None:
    """Record in the cache which of its rows the run in `folder` was made of, so that pruning spares them."""
    cite(cache_root, folder / CONFIG_FILE, rows)


def seen_by(nets: Iterable[Net]) -> frozenset[bytes]:
    """What the images are recognised by that nets were trained on, as far as runs of fine-tuning have recorded them."""
    files = {net.weights_file for net in nets}
    return frozenset().union(*(read_digests(file.with_name(NET_IMAGES)) for file in files if file))


def load_run(
    path: str | Path,
    *,
    head_code: str | None = None,
    net_code: str | Sequence[str] | None = None,
    transform_code: str | Sequence[str] | None = None,
) -> Run:
    """The run in the folder `path`. Nothing that its files may hold is executed.

    Parameters
    ----------
    path : str or Path
    head_code : str, optional
        ``FILE.py:make_head``, for a run whose head is made by code of the user's own: the file is executed if it is the
        very file and function that made the head, and never otherwise.
    net_code : str or sequence of str, optional
        ``FILE.py:make_net`` or ``module:function``, for a run whose net is what a function of the user's own returns:
        only a function that is named is run. A net that it returns now, and that the run does not go with, is an error.
    transform_code : str or sequence of str, optional
        ``FILE.py:transform``, for a run whose images a function of the user's own changes: the file is executed if it
        is the very file and function by which the features were made, and never otherwise.

    Raises
    ------
    InvalidChoice
        When there is no run.
    DamagedFile, UnsafeFile
        When it cannot be read, or would need code of its own.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> _ = lt.train_head("digits", features, "ridge", cv=3, out="runs/digits", overwrite=True, progress=False)
    >>> lt.load_run("runs/digits")  # doctest: +ELLIPSIS
    <Run runs/digits: ridge on glyphnet/block4_pool, 10 classes; accuracy 0.9..., nll ...>
    >>> lt.load_run("no/such/folder")
    Traceback (most recent call last):
    feature_cache.errors.InvalidChoice: no/such/folder is not a run (it has no config.json); make one with: layertap \
train-head, or fine-tune.
    """
    run = load_written(Path(path), head_code=head_code, net_code=net_code)
    _trust_transforms(run, [transform_code] if isinstance(transform_code, str) else transform_code or ())
    return run


def load_written(folder: Path, *, head_code: str | None = None, net_code: str | Sequence[str] | None = None) -> Run:
    """The run in a folder, as `load_run` gives it; the code that changes its images has been named in this process.

    Raises
    ------
    LayertapError
        As of `load_run`.
    """
    file = folder / CONFIG_FILE
    try:
        content = read_config(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        near = "" if folder.exists() else suggestion(folder)
        advice = near or "; make one with: layertap train-head, or fine-tune."
        raise InvalidChoice(f"{folder} is not a run (it has no {CONFIG_FILE}){advice}") from error
    try:
        config = RunConfig.from_json(content)
    except KeyError as error:
        raise unreadable(file, f"it has no {error}") from error
    except (ValueError, TypeError, RecursionError, DamagedFile) as error:
        raise unreadable(file, one_line(error)) from error
    task = config.task or TaskConfig()
    name = _trusted_name(folder, config.head, head_code)
    trusted = _trusted_nets(folder, config, [net_code] if isinstance(net_code, str) else list(net_code or ()))
    new_head(name, task.name)  # whether there is such a head is another matter than its parameters
    try:
        head = make_head(name, config.head.params, task.name)
    except InvalidChoice as error:
        raise DamagedFile(f"{file} names parameters that the head {name!r} does not have; train it again.") from error
    if task.name == "anomalies" and len(task.labels) != 1:
        raise DamagedFile(f"{file} does not name the one class that its head learned; train it again.")
    loaded = type(head).load(folder, head.get_params(deep=False))
    if task.name == "multilabel" and len(task.labels) != len(loaded.classes_):
        raise DamagedFile(f"the head of {folder} is of other labels than {file} names; train it again.")
    return Run(folder, config, loaded, net_code=trusted)


def net_of_run(folder: Path) -> Net:
    """The net that was fine-tuned in the run in `folder`.

    Raises
    ------
    InvalidChoice
        When it is no such run.
    DamagedFile
        When it cannot be read.
    """
    try:
        content = read_config(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidChoice(f"{folder} holds no net; a run of layertap fine-tune does.") from error
    if "fine_tuned" not in content:
        raise InvalidChoice(f"{folder} holds no net; a run of layertap fine-tune does.")
    if "net" not in content:
        raise DamagedFile(f"{folder / CONFIG_FILE} does not say which net the run holds; fine-tune again.")
    net, spec = net_from_config(content["net"], folder), content.get("spec")
    if net.is_file and isinstance(spec, dict):  # what it was trained on, however files of nets are read today
        return replace(net, preprocessing=spec.get("preprocessing", net.preprocessing))
    return net


def net_config(net: Net) -> dict[str, Any]:
    """`Net.as_config` of a net in a run's own folder: its file by name alone, so that the folder may be moved."""
    config = net.as_config()
    key = "name" if net.is_file else "weights"
    return {**config, key: Path(config[key]).name}


def _trusted_name(folder: Path, head: HeadConfig, head_code: str | None) -> str:
    """The name of the head, where it is one of ours or the user has named its code again."""
    if head.code is None and not user_code.is_file(head.name):
        if head_code is not None:
            raise InvalidChoice(f"the head of {folder} needs no code; leave out `head_code`.")
        return head.name
    if head_code is None:
        raise UnsafeFile(
            f"the head of {folder} is made by code of its own, {head.name[:LONGEST]!r}, which is run only where you "
            "name its file: `head_code='FILE.py:FUNCTION'`."
        )
    user_code.require_named(head_code, head.code or "", head.name, folder)
    return head_code


def _trusted_nets(folder: Path, config: RunConfig, net_code: Sequence[str]) -> tuple[str, ...]:
    """The functions that the user has named, where they are all that make nets of the run."""
    recorded = code_of_nets(net for _, net in config.parts)
    if net_code and not recorded:
        raise InvalidChoice(f"the nets of {folder} need no code; leave out `net_code`.")
    for name in recorded:
        if named_again(name, net_code) is None:
            raise UnsafeFile(
                f"the net of {folder} is made by code of its own, {name[:LONGEST]!r}, which is run only where you "
                f"name it: `net_code='{name[:LONGEST]}'`."
            )
    return tuple(net_code)


def _trust_transforms(run: Run, transform_code: Sequence[str]) -> None:
    """Take the functions that the user has named, where they are all that change the images of the run."""
    folder, config = run.folder, run.config
    digests = dict.fromkeys(spec.transform for spec, _ in config.parts if spec.transform is not None)
    if transform_code and not digests:
        raise InvalidChoice(f"the images of {folder} are not changed by code; leave out `transform_code`.")
    if missing := named_for(digests, transform_code):
        recorded = config.transforms.get(missing[0], missing[0])[:LONGEST]
        if transform_code:
            raise UnsafeFile(
                f"the images of {folder} were changed by {recorded!r} as it was then, which is other code than "
                f"{' and '.join(map(str, transform_code))}; bring it back, or train again."
            )
        raise UnsafeFile(
            f"the images of {folder} are changed by code of its own, {recorded!r}, which is run only where you name "
            f"it: `transform_code='{recorded}'`."
        )


def code_of_nets(nets: Iterable[Any]) -> tuple[str, ...]:
    """The functions of the user's that make nets, among the configurations of nets that a run carries."""
    names = [net.get("name") for net in nets if isinstance(net, dict)]
    return tuple(name for name in names if isinstance(name, str) and name.lower() not in NETS and is_code(name))
