"""The files of a folder as a bucket: as much of S3 as reading needs, with latency. It takes little of the processor.

``python -m benchmarks.s3_server FOLDER --latency 0.05`` prints its address, and ends with its input.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000  # keys of a listing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that each answer takes longer")
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(args.folder, args.latency))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


def handler(folder: Path, latency: float) -> type[BaseHTTPRequestHandler]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(latency)
            url = urlsplit(self.path)
            key = unquote(url.path.lstrip("/")).partition("/")[2]  # what comes before is the bucket
            if not key:
                return self._answer(200, listing(sizes, parse_qs(url.query)), {"Content-Type": "application/xml"})
            if key not in sizes:
                return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            size = end = sizes[key]
            start, status, headers = 0, 200, {"ETag": f'"{size}"', "Last-Modified": self.date_time_string(0)}
            if span := self.headers.get("Range"):
                first, _, last = span.removeprefix("bytes=").partition("-")
                start, end, status = int(first), min(int(last or size - 1) + 1, size), 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            content = b""
            if self.command == "GET":
                with (folder / key).open("rb") as stream:
                    stream.seek(start)
                    content = stream.read(end - start)
            return self._answer(status, content, headers, end - start)

        do_HEAD = do_GET

        def _answer(self, status: int, content: bytes, headers: dict[str, str], length: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    return Handler


def listing(sizes: dict[str, int], query: dict[str, list[str]]) -> bytes:
    """A page of the keys with a prefix, as XML."""
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    after = query.get("continuation-token", [""])[0]
    keys = [key for key in sizes if key.startswith(prefix) and key > after]
    inner = [key[len(prefix) :] for key in keys]
    folders = sorted({prefix + name.partition(delimiter)[0] for name in inner if delimiter and delimiter in name})
    found = [key for key, name in zip(keys, inner, strict=True) if not (delimiter and delimiter in name)]
    page, more = found[:PAGE], len(found) > PAGE
    parts = [f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(page) + len(folders)}</KeyCount>"]
    parts += [f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"] if more else []
    parts += [
        f'<Contents><Key>{escape(key)}</Key><Size>{sizes[key]}</Size><ETag>"{sizes[key]}"</ETag>'
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for key in page
    ]
    parts += [f"<CommonPrefixes><Prefix>{escape(name + delimiter)}</Prefix></CommonPrefixes>" for name in folders]
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()


if __name__ == "__main__":
    main()
