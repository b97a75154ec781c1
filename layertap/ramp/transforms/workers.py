"""Worker processes that read images and transform them; as a program, one such worker.

They are plain programs that read requests line by line, so that the script or notebook that trains need not be
importable, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np

from feature_cache.errors import BadData, BadImage, LayertapError
from feature_cache.process.native_output import import_quietly
from layertap.ramp.images import read_image
from layertap.ramp.transforms.code_loading import BadSubmission, called, environment_of_programs, load, place
from layertap.ramp.transforms.identity import Transform

PIECES = 4  # of a chunk for each worker, so that all workers end at about the same time
_ERRORS = {kind.__name__: kind for kind in (BadImage, BadSubmission)}


class TransformWorkers:
    """Processes that apply one transform.

    Parameters
    ----------
    transform : Transform
        A transform with a file.
    count : int
    """

    def __init__(self, transform: Transform, count: int) -> None:
        environment = environment_of_programs()
        environment.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
        command = [sys.executable, "-P", "-c", "from layertap.ramp.transforms.workers import main; main()"]
        # Ctrl-C must not reach them: they end when their standard input is closed.
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes = [
            subprocess.Popen(command, env=environment, start_new_session=True, **pipes) for _ in range(count)
        ]
        about = {"file": str(transform.file), "name": transform.name, "source": transform.source.decode("latin-1")}
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(about).encode() + b"\n")
        self._free = list(self._processes)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="layertap-transform")

    def apply(self, paths: Sequence[str]) -> list[np.ndarray]:
        """The transformed images of the files at `paths`.

        Raises
        ------
        BadImage, BadSubmission
        """
        size = max(1, -(-len(paths) // (PIECES * len(self._processes))))
        pieces = [paths[start : start + size] for start in range(0, len(paths), size)]
        return [image for piece in self._threads.map(self._ask, pieces) for image in piece]

    def stop(self) -> None:
        """Make running calls of `apply` end soon, with an error."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            for stream in (process.stdin, process.stdout):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
            process.wait()

    def _ask(self, paths: Sequence[str]) -> list[np.ndarray]:
        process = self._free.pop()  # there are as many as threads
        try:
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps(list(paths)).encode() + b"\n")
            process.stdin.flush()
            return list(_received(process.stdout))
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, LayertapError):
                raise
            raise BadData(f"a process that transforms images has ended, with status {process.wait()}.") from error
        finally:
            self._free.append(process)


def _received(stream: IO[bytes]) -> Iterator[np.ndarray]:
    answer = json.loads(stream.readline() or b"null")
    if answer is None:
        raise EOFError
    if "message" in answer:
        raise _ERRORS[answer["kind"]](answer["message"])
    for length in answer["lengths"]:
        yield np.load(io.BytesIO(stream.read(length)), allow_pickle=False)


def main() -> None:
    """Answer requests until the input ends: the first line names the transform, every other one holds paths as JSON."""
    import_quietly("tensorflow")  # it prints messages when it is imported
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a transform prints must not be taken for an answer
    first = sys.stdin.buffer.readline()
    if not first:
        return  # the parent process has ended
    about = json.loads(first)
    file, function = Path(about["file"]), None
    for line in sys.stdin.buffer:
        encoded = []
        try:
            if function is None:
                function = getattr(load(file, about["source"].encode("latin-1")), about["name"])
            for path in json.loads(line):
                image = np.asarray(called(function, read_image(path), file))
                if image.dtype.hasobject:
                    raise BadSubmission(f"{place(function)} leaves something that is no array of numbers.")
                encoded.append(_encoded(image))
            answer: dict[str, Any] = {"lengths": [len(content) for content in encoded]}
        except (BadImage, BadSubmission) as error:
            answer, encoded = {"kind": type(error).__name__, "message": str(error)}, []
        try:
            out.write(json.dumps(answer).encode() + b"\n" + b"".join(encoded))
            out.flush()
        except BrokenPipeError:
            os._exit(1)  # silently: the parent process has ended


def _encoded(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, image, allow_pickle=False)
    return stream.getvalue()
