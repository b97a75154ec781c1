"""Submissions tried one after another, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from feature_cache.errors import BadData
from transfer.ramp.preprocessor import BadSubmission
from transfer.ramp.trial import CHECKED, ERROR, RANKED, SCORES

OUTPUT = "training_output"


class Referee:
    """Runs the submissions of a kit.

    Parameters
    ----------
    folder : Path
        Of the kit.
    stdout : file, optional
        Where the tables of submissions go, and what they print themselves.

    Attributes
    ----------
    lines : list of str
        What there is to say of the kit's images.

    Raises
    ------
    LayertapError
        When the kit cannot be used.
    """

    def __init__(self, folder: Path, stdout: IO[str] | None = None) -> None:
        self.folder = folder.resolve()
        self._stdout = stdout
        with _scratch(Path(tempfile.gettempdir())) as out:
            self._call("check", out)
            self._checked = (out / CHECKED).read_text()
        self.lines: list[str] = json.loads(self._checked)["lines"]

    def run(self, name: str, *, old_keras: bool = False) -> dict[str, Any]:
        """Train and score a submission; what it was before in ``training_output`` is replaced.

        Parameters
        ----------
        old_keras : bool
            Whether Keras is to understand calls of its earlier versions.

        Returns
        -------
        dict
            See `transfer.ramp.trial.Trial.run`.

        Raises
        ------
        BadSubmission
            When it cannot be scored.
        """
        output = self.folder / "submissions" / name / OUTPUT
        with _scratch(output.parent) as out:
            (out / CHECKED).write_text(self._checked)
            try:
                self._call("run", out, name, *(["--old-keras"] if old_keras else []))
                found: dict[str, Any] = json.loads((out / SCORES).read_text())
            except BadSubmission:
                _replace(output, out)
                raise
            _replace(output, out)
        return found

    def rank(self) -> dict[str, Any]:
        """See `transfer.ramp.leaderboard.rank`."""
        with _scratch(Path(tempfile.gettempdir())) as out:
            (out / CHECKED).write_text(self._checked)
            self._call("rank", out)
            found: dict[str, Any] = json.loads((out / RANKED).read_text())
            return found

    def _call(self, task: str, out: Path, *arguments: str) -> None:
        """Run `transfer.ramp.trial`; raise what it was that went wrong."""
        # As `ramp-test` in the kit's folder, which is not on the path of modules.
        command = [sys.executable, "-P", "-m", "transfer.ramp.trial", task, str(self.folder), str(out), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        if not (self._stdout or sys.stdout).isatty():
            environment["TERM"] = "dumb"  # no colours
        status = subprocess.run(command, env=environment, cwd=self.folder, stdout=self._stdout, check=False).returncode
        if not status:
            return
        what = f"submissions/{arguments[0]}" if arguments else str(self.folder)
        with contextlib.suppress(OSError):
            line = (out / ERROR).read_text(encoding="utf-8").splitlines()[0]
            raise (BadSubmission if arguments else BadData)(line)
        reason = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        line = f"{what}: its process {reason}; what it printed says more."
        (out / ERROR).write_text(line)
        raise BadSubmission(line)


def _replace(output: Path, out: Path) -> None:
    (out / CHECKED).unlink(missing_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    shutil.move(out, output)


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    folder = parent / f".layertap-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
