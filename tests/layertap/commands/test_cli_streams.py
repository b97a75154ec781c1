"""Standard streams that are closed or full, and signals: a line and a status, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is full")


def shell(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `command` by the shell, in which $LAYERTAP is the command line."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LAYERTAP": f"{sys.executable} -m cli",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments", ["--help", "nets --json", "cache list", "cache list --json", "layers --help", "--version"]
)
@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
def test_output_that_is_lost_is_an_error_in_one_line(tmp_path: Path, arguments: str, where: str) -> None:
    done = shell(f"$LAYERTAP {arguments} {where}", tmp_path)
    said = "layertap: the output: No space left" if "full" in where else "layertap: standard output: Bad file desc"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


def test_output_that_is_lost_at_once_is_an_error_too(tmp_path: Path) -> None:
    done = shell("$LAYERTAP --help >/dev/full", tmp_path, PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) == (1, "layertap: the output: No space left on device.\n")


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_line_that_cannot_be_said_leaves_the_status(tmp_path: Path, where: str) -> None:
    assert shell(f"$LAYERTAP predict none image {where}", tmp_path).returncode == 2
    done = shell(f"$LAYERTAP nonsense {where}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    good = shell(f"$LAYERTAP cache list {where}", tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert "holds no features" in good.stdout


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_a_warning_that_is_lost_is_an_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "features" / "space").mkdir(parents=True)
    (tmp_path / "features" / "space" / "spec.json").write_text("{}")
    assert shell("$LAYERTAP cache list", tmp_path).returncode == 0
    done = shell(f"$LAYERTAP cache list {where}", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_files_never_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    done = shell("$LAYERTAP extract digits --quiet --engine keras 0<&- 1>&- 2>&-; $LAYERTAP cache verify", tmp_path)
    assert done.returncode == 0, done
    assert "1,797" in done.stdout


def test_stdin_that_is_closed_answers_nothing(tmp_path: Path) -> None:
    (tmp_path / "features" / "space").mkdir(parents=True)
    (tmp_path / "features" / "space" / "spec.json").write_text("{}")
    done = shell("$LAYERTAP cache prune space <&-", tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "status", "ready"),
    [
        (signal.SIGINT, 130, "argparse"),  # before the parser is there
        (signal.SIGTERM, 143, "argparse"),
        (signal.SIGHUP, 129, "argparse"),
        (signal.SIGTERM, 143, "numpy"),
        (signal.SIGINT, 130, "keras"),  # while the command is at work
    ],
)
def test_a_signal_while_modules_are_imported_is_one_line(
    tmp_path: Path, number: signal.Signals, status: int, ready: str
) -> None:
    # The module is found by one that sends the signal, while the import of it goes on.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {ready!r} and 'cli' in sys.orig_argv:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "cli", "extract", "digits", "--quiet", "--engine", "keras"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # which background jobs, or nohup, ignore
    )
    how = "interrupted" if number == signal.SIGINT else "stopped as asked"
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith(f"layertap: {how}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_terminal_that_goes_away_leaves_what_nohup_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "extract", "digits", "--quiet", "--engine", "keras"]
    with subprocess.Popen(
        ["/usr/bin/env", "nohup", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
