"""What each command imports: packages that are slow to import are loaded by the commands that need them alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.nets.catalogue import Net

ROOT = Path(__file__).resolve().parents[3]
SLOW = (
    "matplotlib", "skimage", "sklearn", "sklearn.metrics", "scipy", "scipy.optimize", "scipy.stats", "pandas", "skops",
    "tifffile", "keras", "tensorflow", "openvino",
)  # fmt: skip
NOT_FOR_HEADS = {"sklearn.metrics", "scipy.stats", "pandas", "matplotlib", "skimage", "tifffile", "keras", "tensorflow"}
RUN = f"""
import json, sys
import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(json.dumps([status or 0, [name for name in {SLOW!r} if name in sys.modules]]), file=sys.stderr)
"""
TRAIN = ("train-head", "digits", "--layer", "block4_pool", "--head", "auto", "--out", "run", "--overwrite")


@pytest.fixture(scope="module")
def loaded_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., set[str]]:
    """Which of the slow packages a command loads, where there are features of the digits in the cache."""
    folder = tmp_path_factory.mktemp("imports")
    dataset, cache = datasets.load("digits"), FeatureCache(folder / "features")
    digests, first = np.unique(datasets.digests(dataset, cache.memo)[0], axis=0, return_index=True)
    with cache[Net("glyphnet").spec("block4_pool")].writer({}) as writer:
        writer.append(digests, np.eye(10)[dataset.labels[first].astype(int)] + np.arange(len(first))[:, None] / 1e4)

    def loaded(*arguments: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LAYERTAP_CACHE": str(folder / "features")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        status, packages = json.loads(done.stderr.splitlines()[-1])
        assert status == 0, done.stderr
        return set(packages)

    return loaded


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("nets",),
        ("cache", "list"),
        ("extract", "digits", "--layer", "block4_pool"),  # which are in the cache
        ("explore", "digits"),
    ],
    ids=" ".join,
)
def test_commands_that_fit_and_draw_nothing_load_nothing_slow(
    loaded_by: Callable[..., set[str]], command: tuple[str, ...]
) -> None:
    assert loaded_by(*command) == set()


@pytest.mark.slow
def test_a_head_is_trained_without_matplotlib_in_the_process(loaded_by: Callable[..., set[str]]) -> None:
    loaded = loaded_by(*TRAIN)
    assert "sklearn" in loaded
    assert loaded.isdisjoint(NOT_FOR_HEADS | {"skops", "openvino"})


@pytest.mark.slow
def test_a_head_is_applied_without_what_draws_or_builds_nets(loaded_by: Callable[..., set[str]]) -> None:
    loaded_by(*TRAIN)
    for command in (("evaluate", "run", "digits"), ("predict", "run", "digits", "--out", "p.csv")):
        assert loaded_by(*command).isdisjoint(NOT_FOR_HEADS | {"scipy.optimize", "skops", "openvino"}), command


def test_layers_are_listed_without_tensorflow_as_with_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    shown = f"print(*[name for name in {SLOW!r} if name in sys.modules], file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_HOME": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    light, whole = (
        subprocess.run(
            [sys.executable, "-c", f"import sys, cli; cli.main(); {shown}", "layers", "glyphnet"],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=True,
        )
        for more in ({}, {"KERAS_BACKEND": keras.backend.backend()})
    )
    assert set(light.stderr.split()) == {"keras", "openvino", "scipy"}
    assert keras.backend.backend() in whole.stderr.split()
    assert light.stdout == whole.stdout != ""


@pytest.mark.slow
def test_features_of_a_net_never_used_before_are_computed_without_keras_and_tensorflow(
    loaded_by: Callable[..., set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # no net is converted yet
    assert loaded_by("extract", "digits", "--layer", "block1_pool", "--engine", "openvino") == {"openvino"}


def test_the_package_is_the_command_and_its_version_is_looked_up_when_it_is_asked_for(tmp_path: Path) -> None:
    def printed(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert printed("-m", "layertap", "--version") == f"layertap {version('layertap')}"
    assert printed("-m", "layertap", "nets") == printed("-m", "cli", "nets")
    lookup = "import layertap, sys; before = 'importlib.metadata' in sys.modules; print(before, layertap.__version__)"
    assert printed("-S", "-c", lookup).startswith("False")  # without site, which may import it for what is editable
