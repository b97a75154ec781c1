"""An S3 server on this machine (moto), with faults on request: latency, errors, and a bucket nobody may read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
FAILED = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>Try again</Message></Error>'


@dataclass
class Faults:
    """What goes wrong, and what was asked.

    Attributes
    ----------
    every : int
        Each request of this number fails; none for 0.
    method : str
        Only requests of this HTTP method are counted and fail; all for an empty text.
    latency : float
        Seconds that each answer takes longer.
    forbidden : str
        The name of a bucket that nobody may read.
    """

    every: int = 0
    method: str = ""
    latency: float = 0.0
    forbidden: str = "forbidden"
    requests: list[str] = field(default_factory=list)
    counted: int = 0
    failed: int = 0


class Server:
    """The server; `url` is its address."""

    def __init__(self) -> None:
        from moto.moto_api._internal.models import moto_api_backend
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        moto_api_backend.reset()  # all servers of a process have the same buckets
        self.faults = Faults()
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        import s3fs

        self._server.shutdown()
        s3fs.S3FileSystem.clear_instance_cache()  # they would ask this server, where another one is meant

    def environment(self) -> dict[str, str]:
        """The variables by which clients find the server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        faults, method, path = self.faults, environ["REQUEST_METHOD"], environ["PATH_INFO"]
        time.sleep(faults.latency)
        with self._lock:
            faults.requests.append(f"{method} {path}")
            counts = faults.method in ("", method)
            faults.counted += counts
            fails = counts and faults.every and faults.counted % faults.every == 0
            faults.failed += bool(fails)
        if fails or path.startswith(f"/{faults.forbidden}"):
            status, body = ("500 Internal Server Error", FAILED) if fails else ("403 Forbidden", DENIED)
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [b"" if method == "HEAD" else body]
        return self._app(environ, start)
