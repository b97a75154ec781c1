"""Runs: the folder that training a head leaves behind.

config.json     how it was made: the feature spec, the net, the head and its parameters, the protocol; and the digests
                of the other files (see `feature_cache.files.run_folder`)
metrics.json    scores of every split and fold
head.skops or head.keras
head-images.npy the digests of the images that the head, or the net below it, was trained on
net-images.npy  those that the net was trained on, if one was fine-tuned
confusion.png   and, if images were left out, skipped.csv
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import DamagedFile, InvalidChoice, UnsafeFile, one_line
from feature_cache.files import atomic, run_folder
from feature_cache.files.checked import require_regular
from feature_cache.files.run_folder import CONFIG_FILE
from feature_cache.keys import DIGEST_BYTES
from feature_cache.spec import FeatureSpec
from heads import user_code
from heads.evaluation.views import Views
from heads.registry import TASKS, Head, make_head, new_head

METRICS_FILE = "metrics.json"
HEAD_IMAGES, NET_IMAGES = "head-images.npy", "net-images.npy"
MOST_PARTS = 256  # features that a head may read side by side
COMPARED = 2**20  # digests of images that are compared at a time


@dataclass(frozen=True)
class Asked:
    """What a head predicts.

    Attributes
    ----------
    name : str
        Of the task (see `heads.evaluation.tasks`).
    columns : tuple of str
        Of the CSV file that its targets came from; none for classes.
    labels : tuple of str
        That an image may have several of.
    """

    name: str = "classes"
    columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise ValueError(f"there is no task {self.name!r}")


@dataclass(frozen=True)
class Run:
    """A run that has been read back.

    Attributes
    ----------
    config : dict
        As `config.json` holds it.
    spec : FeatureSpec
        Of the features that the head takes; of the first part, where it takes several side by side.
    parts : list of (FeatureSpec, dict)
        The spec and the net of every part.
    task : Asked
    """

    folder: Path
    config: dict[str, Any]
    spec: FeatureSpec
    views: Views
    head: Head
    parts: list[tuple[FeatureSpec, Any]]
    task: Asked


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
    with atomic.whole_folder(folder, "run", run_folder.is_run, overwrite=overwrite) as aside:
        yield aside


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise InvalidChoice when a run cannot be written to `folder`."""
    atomic.check_free(folder, "run", run_folder.is_run, overwrite=overwrite)


def write(
    folder: Path,
    head: Head,
    config: dict[str, Any],
    metrics: dict[str, Any],
    images: Set[bytes] = frozenset(),
    net_images: Set[bytes] = frozenset(),
) -> None:
    """Write a run into `folder`, which holds the files of its net by now, if one was fine-tuned.

    Parameters
    ----------
    images, net_images : set of bytes
        Digests of the images that the head, and the net below it, were trained on.

    Raises
    ------
    InvalidChoice
        When the head reads more features side by side than `read` takes.
    """
    if len(config.get("joined", ())) > MOST_PARTS:
        raise InvalidChoice(f"a head reads up to {MOST_PARTS} features side by side; join fewer.")
    head.save(folder)
    write_images(folder / HEAD_IMAGES, images)
    write_images(folder / NET_IMAGES, net_images)
    run_folder.write_config(folder, config)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def image_keys(digests: np.ndarray) -> list[bytes]:
    """Digests of images, an array of shape (n, 16), uint8, as bytes."""
    return np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel().tolist()


def write_images(file: Path, images: Set[bytes]) -> None:
    """Write digests of images to `file`, if there are any."""
    if images:
        digests = np.frombuffer(b"".join(sorted(images)), np.uint8).reshape(-1, DIGEST_BYTES)
        np.save(file, digests, allow_pickle=False)


def read_images(file: Path) -> frozenset[bytes]:
    """The digests of images that `write_images` wrote; none where there is no such file.

    Raises
    ------
    DamagedFile
        When it cannot be read.
    """
    try:
        require_regular(file)
        digests = np.load(file, mmap_mode="r", allow_pickle=False)  # which compares the size of the file
        if digests.dtype != np.uint8 or digests.shape[1:] != (DIGEST_BYTES,):
            raise ValueError("it holds no digests")
        _require_sorted(digests)
    except FileNotFoundError:
        return frozenset()
    except Exception as error:  # a damaged header makes NumPy raise many types
        reason = getattr(error, "strerror", None) or one_line(error, with_type=True)
        raise DamagedFile(f"{file} cannot be read ({reason}); train again.") from error
    return frozenset(image_keys(digests))


def _require_sorted(digests: np.ndarray) -> None:
    """Raise ValueError unless each is above the one before: a file of holes is refused before all of it is read."""
    for start in range(0, len(digests), COMPARED):
        part = np.ascontiguousarray(digests[start : start + COMPARED + 1]).view(">u8")
        high, low = part[:, 0], part[:, 1]
        if not ((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))).all():
            raise ValueError("its digests are not in order")


def read(folder: Path, head_code: str | None = None) -> Run:
    """The run in `folder`. Nothing that its files may hold is run.

    Parameters
    ----------
    head_code : str, optional
        ``FILE.py:make_head``, for a run whose head is made by code of the user's own: it is run if it is the very file
        and function that made the head, and never otherwise.

    Raises
    ------
    InvalidChoice
        When there is no run.
    DamagedFile, UnsafeFile
        When it cannot be read, or would need code of its own.
    """
    file = folder / CONFIG_FILE
    try:
        config = run_folder.read_config(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidChoice(
            f"{folder} is not a run (it has no {CONFIG_FILE}); make one with: layertap train-head, or fine-tune."
        ) from error
    try:
        recorded = _object(config["head"], "head")
        name, params = _text(recorded["name"], "name of the head"), _object(recorded["params"], "params")
        code = None if recorded.get("code") is None else _text(recorded["code"], "code")
        views = Views(**_object(config.get("views", {}), "views"))
        task = _task(_object(config.get("task", {"name": "classes"}), "task"))
        parts = _parts(config)
    except KeyError as error:
        raise run_folder.unreadable(file, f"it has no {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise run_folder.unreadable(file, str(error)) from error
    except DamagedFile as error:
        raise run_folder.unreadable(file, str(error)) from error
    name = _trusted(folder, name, code, head_code)
    new_head(name, task.name)  # whether there is such a head is another matter than its parameters
    try:
        head = make_head(name, params, task.name)
    except InvalidChoice as error:
        raise DamagedFile(f"{file} names parameters that the head {name!r} does not have; train it again.") from error
    loaded = type(head).load(folder, head.get_params(deep=False))
    if task.name == "multilabel" and len(task.labels) != len(loaded.classes_):
        raise DamagedFile(f"the head of {folder} is of other labels than {file} names; train it again.")
    return Run(folder, config, parts[0][0], views, loaded, parts, task)


def _parts(config: dict[str, Any]) -> list[tuple[FeatureSpec, Any]]:
    """The spec and the net of every part of the features."""
    described = config.get("joined") or [{"spec": config["spec"], "net": config.get("net")}]
    if not isinstance(described, list) or len(described) > MOST_PARTS:
        raise ValueError(f"joined is not a list of up to {MOST_PARTS} features")
    parts = [_object(part, "a part of joined") for part in described]
    return [(FeatureSpec.from_json(json.dumps(part["spec"])), part["net"]) for part in parts]


def _task(described: dict[str, Any]) -> Asked:
    lists = [described.get(key, []) for key in ("columns", "labels")]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("the columns or labels of its task are not lists of texts")
    return Asked(_text(described["name"], "name of the task"), *map(tuple, lists))


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the {what} is not a text")
    return value


def _trusted(folder: Path, name: str, code: str | None, head_code: str | None) -> str:
    """The name of the head, where it is one of ours or the user has named its code again."""
    if code is None and not user_code.is_file(name):
        if head_code is not None:
            raise InvalidChoice(f"the head of {folder} needs no code; leave out --head-code.")
        return name
    if head_code is None:
        raise UnsafeFile(
            f"the head of {folder} is made by code of its own, {name!r}, which is run only where you name its file: "
            "--head-code FILE.py:FUNCTION."
        )
    user_code.require_named(head_code, code or "", name, folder)
    return head_code
