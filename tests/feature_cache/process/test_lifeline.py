"""Workers end with the process that started them, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import multiprocessing, os, sys, time
from feature_cache.process.lifeline import Lifeline, end_with, signals_blocked

def work(end, file, keeping):
    end_with(end, keeping=keeping)
    open(file, "w").write(str(os.getpid()))
    try:
        while True:
            time.sleep(0.01)
    finally:
        open(file + ".kept", "w").close()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with Lifeline(context) as line:
        with signals_blocked():
            process = context.Process(target=work, args=(line.end, "worker", sys.argv[1] == "keeping"))
            process.start()
        while not (os.path.exists("worker") and open("worker").read()):
            time.sleep(0.01)
        print("ready", flush=True)
        if sys.argv[2] == "wait":
            time.sleep(60)
    process.join()
"""


def is_gone(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="this system does not show its processes in /proc")
@pytest.mark.parametrize("kind", ["keeping", "at once"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_a_worker_ends_with_its_parent(tmp_path: Path, kind: str, number: signal.Signals | None) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", kind, "wait" if number else "end"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        worker = int((tmp_path / "worker").read_text())
        with contextlib.suppress(ProcessLookupError):  # a parent that does not wait may have ended it already
            os.kill(worker, signal.SIGINT)  # as Ctrl-C of a terminal, which is for the parent to answer
        if number:
            assert not (tmp_path / "worker.kept").exists()
            parent.send_signal(number)
        assert parent.wait(30) == (-number if number else 0)
        assert is_gone(worker)
    assert (tmp_path / "worker.kept").exists() == (kind == "keeping")
