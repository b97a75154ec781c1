"""Images read from a tar file, shards of WebDataset and a Parquet table, against the same images in a folder.

Everything from the path to the features on disk is counted: listing, digests, decoding, and glyphnet, whose small
input keeps the engine from hiding how images are read. Kinds alternate, each run in a fresh process with a cache of its
own; a ratio is the median over the rounds of the images per second of a kind to those of the folder in that round.

With ``--latency 50`` the same kinds also come from an S3 server on this machine that answers 50 ms late. The server
takes a part of the processor, as a server elsewhere does not.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import layertap as lt
from benchmarks.extract import make_images
from benchmarks.setting import setting

KINDS = ("folder", "tar", "webdataset", "parquet")
SHARDS = 4
GROUP = 1000  # rows of a row group, as the Hugging Face hub writes images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="images (default: 2000)")
    parser.add_argument("--small", action="store_true", help="gray PNGs of 28 x 28 in place of JPEGs of 500 x 375")
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind (default: 5)")
    parser.add_argument("--net", default="glyphnet", help="a net, at its usual layer (default: glyphnet)")
    parser.add_argument("--latency", type=float, metavar="MS", help="read from an S3 server of this latency, too")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(images_per_second(args.one[0], Path(args.one[1]), args.net)))
        return
    names = KINDS if args.latency is None else (*KINDS, *(f"s3 {name}" for name in KINDS))

    print(setting("keras", "openvino", "numpy", "pillow", "pyarrow"))
    kind = "gray PNGs of 28 x 28" if args.small else "JPEGs of 500 x 375"
    print(f"{args.images} {kind}, {args.net}; median of {args.runs} runs\n")
    print("| kind | images/s | ratio to the folder |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        make_containers(Path(scratch), args.images, small=args.small)
        with s3_server(scratch, args.latency) as address:
            rounds = [{name: _run(name, scratch, args.net, address) for name in names} for _ in range(args.runs + 1)]
    for name in names:
        rates = [found[name] for found in rounds[1:]]  # the first warms the page cache
        ratio = statistics.median(found[name] / found["folder"] for found in rounds[1:])
        print(f"| {name} | {statistics.median(rates):.1f} | {ratio:.2f} |")


def _run(name: str, scratch: str, net: str, address: str) -> float:
    command = [sys.executable, "-m", "benchmarks.containers", "--net", net, "--one", name, scratch]
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_ENDPOINT_URL": address}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **keys})
    return float(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def s3_server(folder: str, latency: float | None) -> Iterator[str]:
    """The address of a server of a folder; empty without a latency."""
    if latency is None:
        yield ""
        return
    command = [sys.executable, "-m", "benchmarks.s3_server", folder, "--latency", str(latency / 1000)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout and server.stdin
        yield server.stdout.readline().strip()
        server.stdin.close()


def make_containers(scratch: Path, count: int, *, small: bool) -> None:
    """The same images as a folder, a tar file, shards of WebDataset and a Parquet table."""
    import pyarrow as pa  # an optional package
    import pyarrow.parquet

    make_images(scratch / "folder", count, small=small)
    files = sorted(path for path in (scratch / "folder").rglob("*") if path.is_file())
    with tarfile.open(scratch / "tar.tar", "w") as archive:
        for file in files:
            archive.add(file, file.relative_to(scratch / "folder"))
    for number in range(SHARDS):
        with tarfile.open(scratch / f"shard-{number}.tar", "w") as archive:
            for place, file in list(enumerate(files))[number::SHARDS]:
                archive.add(file, f"{place:06d}{file.suffix}")
                label = tarfile.TarInfo(f"{place:06d}.cls")
                label.size = len(file.parent.name.encode())
                archive.addfile(label, BytesIO(file.parent.name.encode()))
    table = pa.table(
        {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [file.parent.name for file in files],
        }
    )
    pyarrow.parquet.write_table(table, scratch / "parquet.parquet", row_group_size=GROUP)


def images_per_second(name: str, scratch: Path, net: str) -> float:
    """The rate at which the images of a kind become features in a new cache."""
    kind, root = name.rpartition(" ")[2], "s3://bucket" if name.startswith("s3") else str(scratch)
    places = {"folder": "folder", "tar": "tar.tar", "webdataset": "shard-*.tar", "parquet": "parquet.parquet"}
    layers = "block4_pool" if net == "glyphnet" else ()
    lt.extract("digits", net, layers=layers, cache=scratch / f"warm-{net}")  # builds the net, loads the engine
    if root.startswith("s3"):
        importlib.import_module("s3fs")
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        start = time.perf_counter()
        data = lt.load_dataset(f"{root}/{places[kind]}")
        lt.extract(data, net, layers=layers, cache=cache)
        return len(data) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
