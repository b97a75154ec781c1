"""The process that converts a net, seen from the one that starts it: Keras is not imported here."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

from feature_cache import errors
from feature_cache.errors import LayertapError
from transfer.engines.net_part import NetPart

_ROOT = str(Path(__file__).resolve().parents[3])  # where `transfer` is, which an editable install may have elsewhere
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from transfer.engines.conversion.child import main; main()"


class ConversionFailed(Exception):
    """Keras's OpenVINO backend cannot convert this net; the text says why."""


class ConversionProcess:
    """A process that builds a net, as soon as it is made, and converts it once its images are known.

    Parameters
    ----------
    part : NetPart
        What is computed of the net.

    Raises
    ------
    OSError
        When no process can be started.
    """

    def __init__(self, part: NetPart) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM, *_search_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the process that started it, whose end is the end of this one
        )
        self._close = weakref.finalize(self, _end, self._process)
        self._send(part.as_config())

    def convert(self, channels: int, file: Path) -> None:
        """Write the converted net, and end the process.

        Parameters
        ----------
        channels : int
            Of the images that will come.
        file : Path
            Of type ``.xml``; the weights go beside it. Outputs are called ``readout0``, ``readout1`` …

        Raises
        ------
        LayertapError
            When the net cannot be built, as `Backbone` raises it.
        MemoryError
            When there is not enough memory.
        ConversionFailed
            When Keras's OpenVINO backend cannot convert it, or the process has ended before its time.
        """
        try:
            self._send({"channels": channels, "file": str(file.absolute())})
            assert self._process.stdout is not None
            answer = self._process.stdout.readline()
        finally:
            self.close()
        _raise_what(json.loads(answer) if answer else {"kind": "", "message": self._ended()})

    def close(self) -> None:
        """End the process, if it has not ended."""
        self._close()

    def _send(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:  # it has ended; what it has answered says why
            return

    def _ended(self) -> str:
        return f"the process that converts it ended with status {self._process.returncode}"


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _search_path() -> list[str]:
    return [path for path in dict.fromkeys([_ROOT, *sys.path]) if isinstance(path, str)]


def _raise_what(outcome: dict[str, str]) -> None:
    """Raise the error that the process has told of, if it has."""
    if not outcome:
        return
    kind, message = getattr(errors, outcome["kind"], None), outcome["message"]
    if isinstance(kind, type) and issubclass(kind, LayertapError):
        raise kind(message)
    if outcome["kind"] == "MemoryError":
        raise MemoryError(message)
    raise ConversionFailed(message)
