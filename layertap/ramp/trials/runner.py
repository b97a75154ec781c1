"""`TrialRunner`: trials of submissions, one after another, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from feature_cache.errors import BadData
from feature_cache.files.atomic import whole_folder
from feature_cache.files.urls import is_url
from layertap.ramp.kit import require_kit
from layertap.ramp.transforms.code_loading import BadSubmission, environment_of_programs
from layertap.ramp.trials.scoring import OUTPUT, SCORES
from layertap.ramp.trials.trial import CHECKED, ERROR, NO_READER, RANKED

GRACE_SECONDS = 10.0


class TrialRunner:
    """Runs the submissions of a kit.

    Parameters
    ----------
    folder : Path
        The folder of the kit.
    stdout : file, optional
        Where trials print their tables and whatever the submissions print.

    Attributes
    ----------
    lines : list of str
        Notes about the kit's images.
    incomplete : bool
        Whether some of the images cannot be used.

    Raises
    ------
    LayertapError
        When the kit cannot be used.
    """

    def __init__(self, folder: Path, stdout: IO[str] | None = None) -> None:
        self.folder = folder.resolve()
        require_kit(folder)
        self._stdout = stdout
        with _scratch() as out:
            self._call("check", out)
            self._checked = (out / CHECKED).read_text()
        checked = json.loads(self._checked)
        self.lines: list[str] = checked["lines"]
        self.incomplete = any(checked["bad"].values())

    def run(self, name: str, *, old_keras: bool = False) -> dict[str, Any]:
        """Train and score a submission; an earlier ``training_output`` is replaced.

        Parameters
        ----------
        old_keras : bool
            Whether Keras accepts calls of its earlier versions.

        Returns
        -------
        dict
            See `layertap.ramp.trials.trial.Trial.run`.

        Raises
        ------
        BadSubmission
            When the submission cannot be scored.
        """
        output, failure = self.folder / "submissions" / name / OUTPUT, None
        with whole_folder(output, "output", lambda folder: True, overwrite=True) as out:
            (out / CHECKED).write_text(self._checked)
            try:
                self._call("run", out, name, *(["--old-keras"] if old_keras else []))
                result: dict[str, Any] = json.loads((out / SCORES).read_text())
            except BadSubmission as error:
                failure = error
            (out / CHECKED).unlink()
        if failure:
            raise failure
        return result

    def rank(self) -> dict[str, Any]:
        """Rank the submissions that have been scored (see `layertap.ramp.trials.leaderboard.rank`)."""
        with _scratch() as out:
            (out / CHECKED).write_text(self._checked)
            self._call("rank", out)
            result: dict[str, Any] = json.loads((out / RANKED).read_text())
            return result

    def _call(self, task: str, out: Path, *arguments: str) -> None:
        """Run `layertap.ramp.trials.trial` as a process, and raise the error that ended it, if any."""
        # As `ramp-test` does: in the folder of the kit, which is not on the path of modules.
        command = [
            sys.executable,
            "-P",
            "-m",
            "layertap.ramp.trials.trial",
            task,
            str(self.folder),
            str(out),
            *arguments,
        ]
        environment = environment_of_programs()
        if "LAYERTAP_CACHE" in environment and not is_url(environment["LAYERTAP_CACHE"]):
            environment["LAYERTAP_CACHE"] = str(Path(environment["LAYERTAP_CACHE"]).absolute())
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": self._stdout}
        process = subprocess.Popen(command, env=environment, cwd=self.folder, **pipes)
        try:
            status = process.wait()
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):  # Ctrl-C is for both
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)  # it stores what it has computed
            process.kill()
            process.wait()
            raise
        result = out / {"check": CHECKED, "run": SCORES, "rank": RANKED}[task]
        if not status and result.exists():
            return
        if status == NO_READER:
            raise BrokenPipeError
        kind = BadSubmission if task == "run" else BadData
        with contextlib.suppress(OSError):
            raise kind((out / ERROR).read_text(encoding="utf-8").splitlines()[0])
        what = f"submissions/{arguments[0]}" if arguments else str(self.folder)
        reason = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        line = f"{what}: its process {reason}; what it printed may say why."
        (out / ERROR).write_text(line, encoding="utf-8")
        raise kind(line)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="layertap-") as folder:
        yield Path(folder)
