"""`RunConfig`: how a run was made. A run's `config.json` is read here, and its keys are named here alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from feature_cache.errors import DamagedFile, one_line
from feature_cache.files import sealed_folder
from feature_cache.files.checked import LARGEST_TEXT, read_json
from feature_cache.lineage import Used
from feature_cache.spec import FeatureSpec
from heads.evaluation.views import Views
from heads.registry import TASKS
from transfer.data.dataset import Dataset

CONFIG_FILE = "config.json"
FORMAT = 1
MOST_PARTS = 256  # features that a head may read side by side
MOST_SKIPPED = 10_000  # names of images that were left out; `skipped.csv` has all


class FeatureSource(NamedTuple):
    """Features that a head reads: their spec, and the net as `Net.as_config` describes it (None in early runs)."""

    spec: FeatureSpec
    net: Any


@dataclass(frozen=True)
class TaskConfig:
    """What a head predicts.

    Attributes
    ----------
    name : {'classes', 'regression', 'multilabel', 'anomalies'}
        See `heads.evaluation.tasks`.
    columns : tuple of str
        The columns of the table that the targets came from; empty for classes.
    labels : tuple of str
        The labels of which an image may have several; for anomalies, the class of the normal images; empty for the
        other tasks.
    """

    name: str = "classes"
    columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise ValueError(f"there is no task {self.name!r}")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TaskConfig:
        """The task that `to_json` described."""
        lists = [content.get(key, []) for key in ("columns", "labels")]
        if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
            raise ValueError("the columns or labels of its task are not lists of texts")
        return cls(_text(content["name"], "name of the task"), *map(tuple, lists))

    def to_json(self) -> dict[str, Any]:
        """The task as `config.json` holds it."""
        if self.name == "classes":
            return {"name": self.name}
        labels = {"labels": list(self.labels)} if self.name in ("multilabel", "anomalies") else {}
        return {"name": self.name, "columns": list(self.columns), **labels}


@dataclass(frozen=True)
class HeadConfig:
    """How a head was made (see `heads.registry.record`).

    Attributes
    ----------
    name : str
    params : dict
    code : str, optional
        The digest of the user's file that makes the head.
    fit_seconds : float, optional
    """

    name: str
    params: dict[str, Any]
    code: str | None = None
    fit_seconds: Any = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> HeadConfig:
        """The head that `to_json` described."""
        name, params = _text(content["name"], "name of the head"), as_object(content["params"], "params")
        code = None if content.get("code") is None else _text(content["code"], "code")
        return cls(name, params, code, content.get("fit_seconds"))

    def to_json(self) -> dict[str, Any]:
        """The head as `config.json` holds it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunConfig:
    """How a run was made, as its `config.json` holds it. What a run does not record is None.

    Attributes
    ----------
    parts : tuple of FeatureSource
        The features that the head reads side by side.
    head : HeadConfig
    task : TaskConfig, optional
    fine_tuned : dict, optional
        How the net was fine-tuned; only runs with a net of their own have it.
    protocol : dict, optional
        How the head was judged.
    candidates : tuple of str, optional
        The features among which every split chose.
    grid : list of dict, optional
        The parameters of the head among which every split chose.
    views : Views, optional
    rows : tuple of Used, optional
        The rows of the cache that the run was made of.
    data : dict, optional
        The name of the data set, how many images and which targets it has, and what `origin_of` says.
    skipped : tuple of str, optional
        The ids of images that were left out, the first `MOST_SKIPPED` of them.
    transforms : dict of str to str, optional
        The user's functions that changed the images, ``FILE.py:FUNCTION``, by the digests in the specs.
    other : dict
        What other versions of Layertap may have recorded.

    Examples
    --------
    >>> spec = FeatureSpec(net="glyphnet", weights="none", layer="block4_pool", size=(32, 32), pooling="avg")
    >>> config = RunConfig((FeatureSource(spec, None),), HeadConfig("ridge", {}))
    >>> RunConfig.from_json(config.to_json()) == config
    True
    """

    parts: tuple[FeatureSource, ...]
    head: HeadConfig
    task: TaskConfig | None = None
    fine_tuned: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None
    candidates: tuple[str, ...] | None = None
    grid: list[Any] | None = None
    views: Views | None = None
    rows: tuple[Used, ...] | None = None
    data: dict[str, Any] | None = None
    skipped: tuple[str, ...] | None = None
    transforms: dict[str, str] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunConfig:
        """The config that `to_json` described, or that an earlier version of Layertap wrote.

        Raises
        ------
        KeyError, ValueError, TypeError, DamagedFile
            When it holds something else.
        """
        known = {"format", "spec", "net", "joined", "head", "task", "fine_tuned", "protocol", "candidates", "grid"}
        known |= {"views", "features", "data", "skipped", "transforms", sealed_folder.FILES, sealed_folder.DIGEST}
        names = {key: None if content.get(key) is None else tuple(content[key]) for key in ("candidates", "skipped")}
        return cls(
            parts=_parts(content),
            head=HeadConfig.from_json(as_object(content["head"], "head")),
            task=TaskConfig.from_json(as_object(content["task"], "task")) if "task" in content else None,
            fine_tuned=content.get("fine_tuned"),
            protocol=content.get("protocol"),
            candidates=names["candidates"],
            grid=content.get("grid"),
            views=Views(**as_object(content["views"], "views")) if "views" in content else None,
            rows=tuple(Used(**part) for part in content["features"]) if "features" in content else None,
            data=content.get("data"),
            skipped=names["skipped"],
            transforms={
                digest: _text(name, "name of a transform")
                for digest, name in as_object(content.get("transforms", {}), "transforms").items()
            },
            other={key: value for key, value in content.items() if key not in known},
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`, but for the digests of files."""
        parts = [{"spec": json.loads(spec.to_json()), "net": net} for spec, net in self.parts]
        content = {
            "format": FORMAT,
            **{key: value for key, value in parts[0].items() if value is not None},
            "joined": parts if len(parts) > 1 else None,
            "task": self.task and self.task.to_json(),
            "head": self.head.to_json(),
            "fine_tuned": self.fine_tuned,
            "protocol": self.protocol,
            "candidates": None if self.candidates is None else list(self.candidates),
            "grid": self.grid,
            "views": self.views and asdict(self.views),
            "features": None if self.rows is None else [asdict(part) for part in self.rows],
            "data": self.data,
            "skipped": None if self.skipped is None else list(self.skipped[:MOST_SKIPPED]),
            "transforms": self.transforms or None,
            **self.other,
        }
        return {key: value for key, value in content.items() if value is not None}


def origin_of(dataset: Dataset) -> dict[str, Any]:
    """How a data set is loaded again (``options``), and which ``corrections`` were applied to it, where there are any.

    Examples
    --------
    >>> import layertap as lt
    >>> origin_of(lt.load_dataset("digits"))
    {'options': {'source': 'digits'}}
    """
    corrections = None if dataset.corrections is None else dataset.corrections.to_json()
    known = {"options": dataset.options, "corrections": corrections}
    return {name: dict(value) for name, value in known.items() if value is not None}


def _parts(content: Mapping[str, Any]) -> tuple[FeatureSource, ...]:
    """The features that a head reads, of the content of a `config.json`."""
    described = content.get("joined") or [{"spec": content["spec"], "net": content.get("net")}]
    if not isinstance(described, list) or len(described) > MOST_PARTS:
        raise ValueError(f"joined is not a list of up to {MOST_PARTS} features")
    parts = [as_object(part, "a part of joined") for part in described]
    return tuple(FeatureSource(FeatureSpec.from_json(json.dumps(part["spec"])), part["net"]) for part in parts)


def as_object(value: Any, what: str) -> dict[str, Any]:
    """`value`, which comes from JSON; ValueError where it is not an object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the {what} is not a text")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`, once every file of the run is seen to be as it was written.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        When there is none.
    DamagedFile
        When it cannot be read, is of a newer format, or a file of the run was altered.
    """
    file = folder / CONFIG_FILE
    try:
        content = as_object(read_json(file, LARGEST_TEXT), "it")
        version = content["format"]
        if type(version) is not int or version < 1:
            raise ValueError(f"its format is {version!r}")
        if version <= FORMAT:
            sealed_folder.require_unaltered(folder, content, "train again")
    except (FileNotFoundError, NotADirectoryError, DamagedFile):
        raise
    except KeyError as error:
        raise unreadable(file, f"it has no {error}") from error
    except (OSError, ValueError, MemoryError) as error:
        raise unreadable(file, getattr(error, "strerror", None) or one_line(error)) from error
    if version > FORMAT:
        raise DamagedFile(f"{folder} has format {version} and this Layertap reads up to {FORMAT}; upgrade layertap.")
    return content


def unreadable(file: Path, reason: str) -> DamagedFile:
    """The error for a `config.json` that is no such file."""
    return DamagedFile(f"{file} cannot be read ({reason}); train the head again.")
