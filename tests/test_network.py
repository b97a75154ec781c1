"""No command asks the network for anything, or tells it anything, where nothing has to be downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
# Python imports this before anything else, in every process that inherits PYTHONPATH.
BLOCKED = """
import os, socket

def refuse(name, original):
    def refusing(*arguments, **options):
        address = arguments[-1]
        if getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", -1):
            return original(*arguments, **options)  # between processes of this machine
        with open(os.environ["ATTEMPTS"], "a") as stream:
            print(name, address, file=stream)
        raise OSError("the network is blocked")
    return refusing

class Socket(socket.socket):
    pass

for name in ("connect", "connect_ex", "sendto"):
    setattr(Socket, name, refuse(name, getattr(socket.socket, name)))
socket.socket = Socket
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse(name, getattr(socket, name)))
"""
COMMANDS = (
    ("extract", "{data}"),
    ("train-head", "{data}", "--head", "ridge", "--out", "run"),
    ("export", "run", "{data}", "--to", "openvino", "--out", "model.xml"),
    ("predict", "run", "{data}", "--out", "predictions.csv"),
)
PROBE = "import socket; socket.getaddrinfo('example.org', 80)"
IMPORTED = "import sys, transfer, openvino; print(sys.modules.get('openvino_telemetry'))"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process whose network is blocked, and whose home folder is empty; not that of CI, where telemetry is off."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKED)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "TF_BUILD", "JENKINS_URL", "LAYERTAP_CACHE")
    }
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "blocked"), str(ROOT)]),
        "HOME": str(tmp_path / "home"),
        "ATTEMPTS": str(tmp_path / "attempts"),
    }


def run(tmp_path: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_block_sees_an_attempt(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "the network is blocked" in run(tmp_path, environment, "-c", PROBE).stderr
    assert (tmp_path / "attempts").read_text().startswith("getaddrinfo")


@pytest.mark.slow
def test_the_main_job_asks_and_tells_the_network_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    data = tmp_path / "data"
    rng = np.random.default_rng(0)
    for label, low in (("bright", 150), ("dark", 0)):
        (data / label).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(rng.integers(low, low + 100, (12, 12), np.uint8)).save(data / label / f"{number}.png")
    for command in COMMANDS:
        done = run(tmp_path, environment, "-m", "cli", *(word.format(data=data) for word in command))
        assert done.returncode == 0, done.stderr
        assert "telemetry" not in done.stderr.lower()
    assert not (tmp_path / "attempts").exists(), (tmp_path / "attempts").read_text()
    assert not (tmp_path / "home" / "intel").exists()


@pytest.mark.parametrize(("consent", "on"), [(None, False), ("0", False), ("1", True)])
def test_telemetry_of_openvino_is_on_only_where_the_user_has_turned_it_on(
    tmp_path: Path, environment: dict[str, str], consent: str | None, on: bool
) -> None:
    pytest.importorskip("openvino_telemetry")
    if consent is not None:
        (tmp_path / "home" / "intel").mkdir()
        (tmp_path / "home" / "intel" / "openvino_telemetry").write_text(consent)
    done = run(tmp_path, environment, "-c", IMPORTED)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.strip() != "None") == on
    assert (tmp_path / "attempts").exists() == on
