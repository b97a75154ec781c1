"""The command line in a process of its own, and in this one, on a small data set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache import FeatureCache, FeatureSpec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[3]


def write_classes(folder: Path, per_class: int = 6, seed: int = 0) -> Path:
    """Bright noise in one class folder, dark noise in another."""
    rng = np.random.default_rng(seed)
    for name, low in (("bright", 150), ("dark", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            Image.fromarray(rng.integers(low, low + 100, (12, 12), np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data")


@pytest.fixture(scope="session")
def make_classes() -> Callable[..., Path]:
    return write_classes


@pytest.fixture(scope="session")
def layertap() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, in the folder `cwd`."""

    def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            key: value for key, value in os.environ.items() if key not in ("LAYERTAP_CACHE", "TF_CPP_MIN_LOG_LEVEL")
        }
        return subprocess.run(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            cwd=cwd,
            env={**inherited, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def features_of() -> Callable[[str, Path], None]:
    """Put a row of features by a net into a cache."""

    def write(net: str, cache: Path) -> None:
        spec = FeatureSpec(net=net, weights="random-0", layer="last", size=(32, 32))
        with FeatureCache(cache)[spec].writer({}) as writer:
            writer.append(np.ones((1, 16), np.uint8), np.ones((1, 4), np.float32))

    return write


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the command line in this process, in `tmp_path`, whose ``features`` is the cache."""
    import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERTAP_CACHE", raising=False)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            status = cli.main([str(word) for word in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        written = capfd.readouterr()
        return Outcome(status, written.out, written.err)

    return run


@pytest.fixture
def mistake(main: Callable[..., Outcome], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail for the user's mistake; the one line that it says."""

    def run(*arguments: object) -> str:
        before = written_files(tmp_path)
        outcome = main(*arguments)
        assert outcome.status == 2, outcome
        assert outcome.stdout == ""
        assert outcome.stderr.startswith("layertap: ")
        assert outcome.stderr.count("\n") == 1, outcome.stderr
        assert "Traceback" not in outcome.stderr
        assert written_files(tmp_path) == before, "something half-written is left"
        return outcome.stderr.removeprefix("layertap: ").strip()

    return run


def written_files(folder: Path) -> set[str]:
    """Every file and folder below `folder`, but for memos of digests, and the folders of caches that hold them."""
    found = {path.relative_to(folder) for path in folder.rglob("*")}
    memos = {path for path in found if path.name.startswith("digests.sqlite")}
    return {str(path) for path in found - memos - {path.parent for path in memos}} - {"features"}
