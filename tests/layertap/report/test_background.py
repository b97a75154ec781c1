"""Pictures that another process draws are those that this one would draw, whatever becomes of that process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layertap.report import background, plots

ROOT = Path(__file__).resolve().parents[3]
DETAILS = (["cat", "dog"], np.array([[5, 0], [1, 4]]), "pets")


@pytest.fixture(scope="module", autouse=True)
def shared() -> Iterator[None]:
    """One process for all tests that leave it as it is."""
    background.stop()
    yield
    background.stop()


@pytest.fixture
def ended() -> Iterator[None]:
    """No process before, and none that is left."""
    background.stop()
    yield
    background.stop()


def drawn_here() -> bytes:
    file = io.BytesIO()
    plots.confusion(file, *DETAILS)
    return file.getvalue()


def pid_of(file: Any) -> None:
    file.write(str(os.getpid()).encode())


def fail(file: Any) -> None:
    raise ValueError("nothing to draw")


def kill(file: Any, parent: int) -> None:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    file.write(b"drawn by the parent")


@pytest.mark.slow
def test_another_process_draws_the_same_picture() -> None:
    pictures = [background.draw(plots.confusion, *DETAILS), background.draw(pid_of)]
    assert pictures[0].png() == drawn_here()
    assert int(pictures[1].png()) != os.getpid()
    assert background.draw(pid_of).png() == pictures[1].png()  # it is kept


def test_an_error_of_drawing_is_raised_where_the_picture_is_wanted() -> None:
    picture = background.draw(fail)
    with pytest.raises(ValueError, match="nothing to draw"):
        picture.png()
    assert background.draw(plots.confusion, *DETAILS).png() == drawn_here()


@pytest.mark.slow
def test_pictures_of_a_process_that_was_killed_are_drawn_here(ended: None) -> None:
    pictures = [background.draw(kill, os.getpid()), background.draw(plots.confusion, *DETAILS)]
    assert pictures[0].png() == b"drawn by the parent"
    assert pictures[1].png() == drawn_here()
    assert background.draw(plots.confusion, *DETAILS).png() == drawn_here()


def test_on_a_single_core_pictures_are_drawn_here(ended: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "cores", lambda: [0])
    assert int(background.draw(pid_of).png()) == os.getpid()


def test_where_no_process_can_be_started_pictures_are_drawn_here(ended: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*arguments: Any) -> None:
        raise OSError("no semaphores")

    monkeypatch.setattr(background, "ProcessPoolExecutor", lacking)
    assert int(background.draw(pid_of).png()) == os.getpid()


def test_a_script_without_a_main_guard_runs_once_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nimport numpy as np\nfrom layertap.report import background, plots\n"
        "print(background.draw(plots.confusion, ['a', 'b'], np.eye(2, dtype=int), 't').png()[1:4])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("once\nb'PNG'\n", "")
