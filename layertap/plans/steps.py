"""`Step`: a step of a plan, ready to run; and `PlanState`: which steps are done, in a small file beside the plan.

A step is not done again while nothing that it depends on has changed: its words, the files and folders that they
name, what earlier steps made among them, and what it made itself. That a step begins is recorded before it does, so
that what a process left behind which was killed is recognised.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_cache.errors import DamagedFile, InvalidChoice
from feature_cache.files.atomic import new_file
from feature_cache.files.checked import LARGEST_TEXT, read_json, real_path
from feature_cache.files.sealed_folder import file_digest
from feature_cache.files.urls import redacted, shown

FORMAT = 1
ANEW = "delete it, and all steps are done anew"


class Stage(enum.Enum):
    """How far a step is.

    Attributes
    ----------
    TO_DO
        It has not been done.
    AGAIN
        It has been done, or begun, and what it depends on has changed since: it is done again, and what it made is
        replaced.
    DONE
        It has been done, and nothing has changed.
    OPEN
        It does what is missing, whenever it runs.
    """

    TO_DO = "to do"
    AGAIN = "to do again"
    DONE = "done"
    OPEN = "does what is missing"


@dataclass(frozen=True)
class Step:
    """A command with its options.

    Attributes
    ----------
    number : int
        From 1.
    words : tuple of str
        The command line without ``layertap``.
    values : tuple of str
        The values of the options, but for `out` and the cache: some of them are paths.
    out : str, optional
        The file or folder that it writes.
    repeats : bool
        Whether it is never done for good, but does only what is missing: ``extract``.
    whole : bool
        Whether what it writes appears whole or not at all.
    replaces : bool
        Whether it may be given ``--overwrite``.
    continues : bool
        Whether it goes on in a folder that exists, or replaces it.
    """

    number: int
    words: tuple[str, ...]
    values: tuple[str, ...] = ()
    out: str | None = None
    repeats: bool = False
    whole: bool = False
    replaces: bool = False
    continues: bool = False

    @property
    def shown(self) -> tuple[str, ...]:
        """Its words, without what is secret in URLs."""
        return tuple(redacted(shown(word)) for word in self.words)

    @property
    def name(self) -> str:
        """What its record is found by."""
        return shlex.join(self.shown) if self.out is None else os.path.normpath(self.out)

    def __str__(self) -> str:
        return f"step {self.number} ({self.words[0]})"


class PlanState:
    """Which steps of a plan are done.

    Parameters
    ----------
    plan : Path
        The file of the plan; the state is beside it, in ``{plan's name}.done.json``.
    folder : Path
        The folder that relative paths of its steps start from.

    Raises
    ------
    DamagedFile
        When the state cannot be read.
    """

    def __init__(self, plan: Path, folder: Path) -> None:
        self.file = real_path(plan).with_suffix(".done.json")
        self._folder = folder
        self._records = _read(self.file)
        self._marks: dict[str, str] = {}  # fingerprints of inputs, until a step has changed the disk

    def stages(self, steps: Sequence[Step]) -> list[Stage]:
        """How far each step is; a step that reads what another one is going to make is to be done.

        Raises
        ------
        InvalidChoice
            When there is something at the `out` of a step that this step has not made.
        """
        self._marks.clear()
        found: list[Stage] = []
        pending: set[str] = set()
        for step in steps:
            found.append(self.stage(step, pending))
            if found[-1] is not Stage.DONE and step.out is not None:
                pending.add(os.path.normpath(step.out))
        return found

    def stage(self, step: Step, pending: Set[str] = frozenset()) -> Stage:
        """How far a step is.

        Parameters
        ----------
        pending : set of str
            What earlier steps are going to make.

        Raises
        ------
        InvalidChoice
            When there is something at its `out` that this step has not made.
        """
        if step.repeats:
            return Stage.OPEN
        record, made = self._records.get(step.name), self._made(step)
        if record is None:
            foreign, done = bool(made), False
        elif record["made"] is None:  # it has begun
            foreign, done = False, bool(step.whole and made and made != record["before"])
        else:
            foreign, done = bool(made) and made != record["made"], made == record["made"]
        if foreign and not step.continues:
            raise InvalidChoice(
                f"{step}: {step.out} exists, and this step has not made it as it is; choose another `out`."
            )
        same = record is not None and record["words"] == list(step.shown) and record["inputs"] == self._inputs(step)
        if done and same and not pending & _names(step.values):
            return Stage.DONE
        return Stage.AGAIN if made else Stage.TO_DO

    def begin(self, step: Step) -> None:
        """Record that a step begins."""
        self._records[step.name] = {
            "words": list(step.shown),
            "inputs": self._inputs(step),
            "before": self._made(step),
            "made": None,
        }
        self._write()

    def finish(self, step: Step) -> None:
        """Record that a step is done, which has begun."""
        if self._records[step.name]["made"] is None:
            self._marks.clear()
            self._records[step.name]["made"] = self._made(step)
            self._write()

    def _inputs(self, step: Step) -> dict[str, str]:
        """The files and folders that a step names, and what they are recognised by."""
        names = sorted(_names(step.values))
        for name in names:
            if name not in self._marks:  # a walk through a million images takes seconds
                self._marks[name] = fingerprint(self._folder / name)
        return {name: self._marks[name] for name in names if self._marks[name]}

    def _made(self, step: Step) -> str:
        return "" if step.out is None else fingerprint(self._folder / step.out)

    def _write(self) -> None:
        text = json.dumps({"format": FORMAT, "steps": self._records}, indent=1) + "\n"
        with new_file(self.file, "the state of the plan") as stream:
            stream.write(text.encode("utf-8"))


def _names(values: Iterable[str]) -> set[str]:
    """What may be paths in values: each whole, and the parts of ``NET:LAYER``, ``FILE.py:NAME``, ``NET=FILE``."""
    found: set[str] = set()
    for value in values:
        ends = [match.start() for match in re.finditer("[:=]", value)]
        parts = {value, *(value[:end] for end in ends), *(value[end + 1 :] for end in ends)}
        found |= {os.path.normpath(part) for part in parts if part}
    return found


def fingerprint(path: Path) -> str:
    """What the content of a file or a folder is recognised by; empty where there is none.

    The document that seals a run, or the table of a sweep, stands for its folder. Of other folders, and of large files,
    the sizes and dates count.
    """
    with contextlib.suppress(OSError, ValueError):
        if path.is_dir():
            for name in ("config.json", "sweep.json"):
                if (path / name).is_file():
                    return f"{name} {file_digest(path / name)}"
            return f"folder {_of_folder(path)}"
        if path.is_file():
            size, when = path.stat().st_size, path.stat().st_mtime_ns
            return file_digest(path) if size <= LARGEST_TEXT else f"{size} {when}"
    return ""


def _of_folder(path: Path) -> str:
    """The digest of the names, sizes and dates of all files in a folder."""
    digest = hashlib.sha256()
    for folder, inner, files in os.walk(path):
        inner.sort()
        for name in sorted(files):
            file = os.path.join(folder, name)  # noqa: PTH118 - a Path for each of a million images takes longer
            with contextlib.suppress(OSError):
                known = os.stat(file)  # noqa: PTH116
                digest.update(os.fsencode(os.path.relpath(file, path)))
                digest.update(f"\0{known.st_size} {known.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The records in the file of a state; none where there is no file."""
    try:
        content = read_json(file)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return {name: _record(record) for name, record in content["steps"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is no state of a plan"
        raise DamagedFile(f"{file} cannot be read ({reason}); {ANEW}.") from error


def _record(record: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {"words": list, "inputs": dict, "before": str, "made": (str, type(None))}
    if not all(isinstance(record[name], kind) for name, kind in kinds.items()):
        raise ValueError("a record has other values")
    return {name: record[name] for name in kinds}
