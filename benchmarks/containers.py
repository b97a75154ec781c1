"""Images read from a tar file, shards of WebDataset and a Parquet table, against the same images in a folder.

Everything from the path to the features on disk is counted: listing, digests, decoding, and glyphnet, whose small
input keeps the engine from hiding how images are read. Kinds alternate, each run in a fresh process with a cache of its
own; a ratio is the median over the rounds of the images per second of a kind to those of the folder in that round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
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
    parser.add_argument("--one", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(images_per_second(args.one[0], Path(args.one[1]))))
        return

    print(setting("keras", "openvino", "numpy", "pillow", "pyarrow"))
    kind = "gray PNGs of 28 x 28" if args.small else "JPEGs of 500 x 375"
    print(f"{args.images} {kind}; median of {args.runs} runs\n")
    print("| kind | images/s | ratio to the folder |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        make_containers(Path(scratch), args.images, small=args.small)
        rounds = [{name: _run(name, scratch) for name in KINDS} for _ in range(args.runs + 1)]
    for name in KINDS:
        rates = [found[name] for found in rounds[1:]]  # the first warms the page cache
        ratio = statistics.median(found[name] / found["folder"] for found in rounds[1:])
        print(f"| {name} | {statistics.median(rates):.1f} | {ratio:.2f} |")


def _run(name: str, scratch: str) -> float:
    command = [sys.executable, "-m", "benchmarks.containers", "--one", name, scratch]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


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


def images_per_second(name: str, scratch: Path) -> float:
    """The rate at which the images of a kind become features in a new cache."""
    places = {"folder": "folder", "tar": "tar.tar", "webdataset": "shard-*.tar", "parquet": "parquet.parquet"}
    lt.extract("digits", "glyphnet", layers="block4_pool", cache=scratch / "warm")  # builds the net, loads the engine
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        start = time.perf_counter()
        data = lt.load_dataset(str(scratch / places[name]))
        lt.extract(data, "glyphnet", layers="block4_pool", cache=cache)
        return len(data) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
