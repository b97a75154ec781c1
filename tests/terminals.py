"""Python on a pseudo-terminal, as people use it."""

from __future__ import annotations

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def on_a_terminal(arguments: Sequence[str], columns: int, interrupt: bool = False, **env: str) -> tuple[int, str]:
    """The exit status of a Python process on a terminal of its own, and all that it wrote there."""
    main, other = pty.openpty()
    ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **env}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=other,
        stdout=other,
        stderr=other,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background may ignore it
    )
    os.close(other)
    written = b""
    while True:
        try:
            piece = os.read(main, 2**16)
        except OSError:  # the other end is closed
            piece = b""
        if not piece:
            break
        written += piece
        if interrupt and b"waiting" in written:
            process.send_signal(signal.SIGINT)
            interrupt = False
    os.close(main)
    return process.wait(60), written.decode()
