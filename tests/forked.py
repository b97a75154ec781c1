"""Commands in processes that are forked from one that has already imported what costs most of their time.

Each has its own memory, folder, environment, standard streams, signals and exit status, as if Python had been started
for it. Tests of the start itself, of what is imported, and of variables that Python or a library reads while it starts
do start Python.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

TESTS = Path(__file__).parent
SECONDS = 300

_context = multiprocessing.get_context("forkserver")
_server = forkserver.ForkServer()  # of its own: other tests fork from one that is small
_server.set_forkserver_preload(["keras", "rampwf.utils.scoring", "skimage.io", "skops.io", "forked"])


def run_command(*arguments: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``layertap`` with these arguments, as ``subprocess.run([sys.executable, "-m", "cli", ...])`` would."""
    words = list(map(str, arguments))
    with tempfile.TemporaryDirectory(prefix="forked-") as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        process = _context.Process(target=_command, args=(words, str(cwd), env, str(out), str(err)))
        with mock.patch.object(forkserver, "connect_to_new_process", _server.connect_to_new_process):
            process.start()
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, SECONDS, out.read_bytes(), err.read_bytes())
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def _command(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    for number, file, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        handle = os.open(file, mode | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    if words[:1] == ["ramp"]:
        from layertap.ramp.trials import runner

        runner.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": _Trial})
        _Trial.filters = list(warnings.filters)
    _run("cli", words, [cwd], cwd, env)


def _run(module: str, arguments: Sequence[str], first: list[str], cwd: str, env: dict[str, str]) -> None:
    """Become ``python -m module arguments``, which finds modules in `first` before others; it leaves by SystemExit."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    own = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    rest = [path for path in sys.path if path not in own and not Path(path).is_relative_to(TESTS)]
    sys.path[:] = [*first, *own, *rest]
    sys.argv[1:] = arguments
    sys.modules.pop(module, None)
    atexit._clear()  # of the process that this one was forked from
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # as Python does; processes of multiprocessing end without


class _Trial:
    """Stands in for `subprocess.Popen`, for a trial of a submission: forked from the command, which loads no kit."""

    filters: list[Any] = []

    def __init__(self, command: list[str], *, env: dict[str, str], cwd: Path, stdin: int, stdout: Any) -> None:
        assert command[:3] == [sys.executable, "-P", "-m"] and stdin == subprocess.PIPE
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        lifeline, self._held = os.pipe()

        def run() -> None:
            os.close(self._held)
            os.dup2(lifeline, 0)
            if stdout is not None:
                os.dup2(stdout.fileno(), 1)
            warnings.filters[:] = self.filters
            _run(command[3], command[4:], [], str(cwd), env)

        self._process = multiprocessing.get_context("fork").Process(target=run)
        self._process.start()
        os.close(lifeline)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("trial", timeout or 0)
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
