"""Links in a circle, and pipes, where commands write and read: a line, and no traceback or wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_cache.errors import InvalidChoice, StorageFailure
from feature_cache.files.atomic import check_free
from layertap.commands.terminal import output


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "loop"


def test_a_link_in_a_circle_is_no_place_to_write_to(loop: Path) -> None:
    with pytest.raises(InvalidChoice, match="is a link that leads in a circle; choose another folder with `out`"):
        check_free(loop, "run", lambda folder: True, overwrite=True)
    with pytest.raises(InvalidChoice, match="is a link that leads in a circle"), output.output(str(loop)):
        pytest.fail("the block was entered")


def test_commands_name_a_link_in_a_circle(mistake: Callable, loop: Path, data: Path) -> None:
    assert mistake("explore", "data", "--out", "loop").startswith("loop is a link that leads in a circle")
    assert mistake("fine-tune", "data", "--layer", "block4_pool", "--out", "loop").startswith("loop is a link")
    assert "there is no data set, folder or file 'loop'" in mistake("explore", "loop")


def test_a_data_set_with_a_link_in_a_circle_names_it(mistake: Callable, loop: Path, data: Path) -> None:
    (data / "bright" / "round").symlink_to("round")
    assert "round" in mistake("extract", "data", "--quiet")


def test_a_pipe_that_nothing_reads_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(output, "READER_SECONDS", 0.2)
    with pytest.raises(StorageFailure, match="nothing reads this pipe"), output.output(str(tmp_path / "pipe")):
        pytest.fail("the block was entered")


def test_a_pipe_that_is_read_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    with output.output(str(tmp_path / "pipe")) as stream:
        stream.write("text" * 50_000)  # more than a pipe holds
    reader.join(20)
    assert read == ["text" * 50_000]


def test_what_a_terminal_would_act_on_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a",), [("\x1b[31mred\x07é\n",)])
    assert "\\x1b[31mred\\x07é\\n" in capsys.readouterr().out
