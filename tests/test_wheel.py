"""The wheel alone, in an empty environment: it does the main job on a CPU, without TensorFlow and in little space."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_BYTES = 600_000_000
NO_PACKAGES = ("No matching distribution", "Could not find a version", "Connection", "Temporary failure")

pytestmark = pytest.mark.slow


def run(*command: str | Path, folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KERAS_BACKEND")}
    environment["XDG_CACHE_HOME"] = str(folder / "xdg")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds what installing the wheel brings, in the versions of ``constraints.txt``."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder / "venv", with_pip=True)
    pip = folder / "venv" / "bin" / "pip"
    source = folder / "source"
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "node_modules", "tests", "site", "features")
    shutil.copytree(ROOT, source, ignore=left_out)
    try:
        run(pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source, folder=folder)
        [wheel] = folder.glob("layertap-*.whl")
        versions = ("--constraint", ROOT / "constraints.txt")
        run(pip, "install", "--quiet", "--no-compile", *versions, wheel, folder=folder)
    except AssertionError as error:
        if any(sign in str(error) for sign in NO_PACKAGES):
            pytest.skip(f"there is no index of packages: {str(error).strip().splitlines()[-1]}")
        raise
    return folder


def test_it_extracts_and_trains_without_tensorflow(environment: Path) -> None:
    binaries = environment / "venv" / "bin"
    run(binaries / "layertap", "extract", "digits", folder=environment)
    said = run(binaries / "layertap", "train-head", "digits", "--out", "run", folder=environment).stdout
    [scores] = [line.split() for line in said.splitlines() if line.startswith("valid")]
    assert float(scores[1]) > 0.95
    code = "from importlib.util import find_spec as f; print([n for n in ('tensorflow', 'jax', 'torch') if f(n)])"
    assert run(binaries / "python", "-c", code, folder=environment).stdout.strip() == "[]"


def test_it_takes_little_space(environment: Path) -> None:
    files = [file for file in (environment / "venv").rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES


def test_what_needs_tensorflow_says_how_to_install_it(environment: Path) -> None:
    layertap = environment / "venv" / "bin" / "layertap"
    run(layertap, "extract", "digits", folder=environment)
    for command in (("train-head", "digits", "--head", "mlp"), ("fine-tune", "digits")):
        said = run(layertap, *command, "--out", "no-run", folder=environment, status=2)
        assert said.stderr.splitlines()[-1] == (
            "layertap: training a net needs TensorFlow, JAX or PyTorch: pip install 'layertap[tensorflow]', and leave "
            "KERAS_BACKEND unset."
        )
        assert not (environment / "no-run").exists()
