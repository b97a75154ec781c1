"""A soak: many small images in shards of WebDataset become features, while the process is killed again and again.

The images are gray PNGs of 28 x 28 and no two are alike. `layertap extract` is started, killed with SIGKILL after a
random time, and started again, until it ends by itself; then the cache is looked up, listed, compacted, looked up again
and verified, each by a command of its own. At the end, rows of images chosen at random are computed anew, without the
cache, and compared. A smaller part of the same shards is extracted before, into a cache of its own and without kills:
the peaks of memory of both are compared.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import layertap as lt
from benchmarks.setting import setting

SHARD = 10_000  # images
CHECKED = 1000  # rows that are computed anew
NET = ("--net", "glyphnet", "--layer", "block1_pool")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="images (default: 1000000)")
    parser.add_argument("--part", type=int, default=100_000, help="images of the part (default: 100000)")
    parser.add_argument("--kills", type=int, default=10, help="times that the process is killed (default: 10)")
    parser.add_argument("--every", type=float, default=30, help="mean seconds between kills (default: 30)")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a temporary folder)")
    args = parser.parse_args()
    print(setting("keras", "openvino", "numpy", "h5py"))
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        soak(Path(scratch), args.images, args.part, args.kills, args.every)


def soak(scratch: Path, images: int, part: int, kills: int, every: float) -> None:
    """Make the shards, extract them, and print a line for each thing that is measured."""
    make_shards(scratch, images)
    few, whole = (f"{scratch}/shard-{{0000..{count // SHARD - 1:04d}}}.tar" for count in (part, images))
    done = run("extract", few, *NET, "--cache", scratch / "few")
    say(f"{part:,} images without a kill", f"{part / done.seconds:,.0f} images/s, peak {done.peak:,.0f} MB")

    cache = scratch / "features"
    extract, choice, spent = ("extract", whole, *NET, "--cache", cache), random.Random(0), 0.0
    killed = 0
    for _ in range(kills):
        done = run(*extract, after=choice.uniform(0, 2 * every))
        spent += done.seconds
        if done.ended:
            break
        killed += 1
    if not done.ended or not kills:
        done = run(*extract)
        spent += done.seconds
    say(f"{images:,} images, {killed} kills", f"{images / spent:,.0f} images/s, peak of the last {done.peak:,.0f} MB")
    say("files and bytes", files_of(cache))
    again = run(*extract)
    say("the same command again", f"{again.seconds:.1f} s, peak {again.peak:,.0f} MB")
    for command in (("cache", "list"), ("cache", "compact"), ("cache", "verify")):
        done = run(*command, "--cache", cache)
        say(" ".join(command), f"{done.seconds:.1f} s, peak {done.peak:,.0f} MB; {files_of(cache)}")
    again = run(*extract)
    say("the same command after that", f"{again.seconds:.1f} s, peak {again.peak:,.0f} MB")
    say(f"{CHECKED:,} rows computed anew", f"largest difference {difference(whole, cache, scratch / 'anew'):.1g}")


@dataclass(frozen=True)
class Done:
    """How a process ended: whether by itself, after how many seconds, and its peak of memory in MB."""

    ended: bool
    seconds: float
    peak: float


def run(*words: object, after: float | None = None) -> Done:
    """Run a command, and kill it after some seconds."""
    command, start = [sys.executable, "-m", "layertap", *map(str, words)], time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        timer = threading.Timer(after or 0, process.kill)
        if after is not None:
            timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, -signal.SIGKILL):
            said.seek(0)
            raise SystemExit(f"{words[0]} ended with status {process.returncode}: {said.read()[-500:]}")
    return Done(process.returncode == 0, time.perf_counter() - start, usage.ru_maxrss / 1e3)


def make_shards(folder: Path, images: int) -> None:
    """Shards of `SHARD` images of random squares, each with a label."""
    for number in range(0, images, SHARD):
        coarse = np.random.default_rng(number).integers(0, 256, (SHARD, 7, 7)).astype(np.uint8)
        with tarfile.open(folder / f"shard-{number // SHARD:04d}.tar", "w") as archive:
            for place, pixels in enumerate(coarse.repeat(4, axis=1).repeat(4, axis=2), number):
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "png", compress_level=1)
                for suffix, content in ((".png", image.getvalue()), (".cls", b"%d" % (place % 10))):
                    entry = tarfile.TarInfo(f"{place:07d}{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))


def files_of(cache: Path) -> str:
    """The number of files below a folder, and their size."""
    sizes = [path.stat().st_size for path in cache.rglob("*") if path.is_file()]
    return f"{len(sizes):,} files, {sum(sizes) / 1e6:,.0f} MB"


def difference(data: str, cache: Path, anew: Path) -> float:
    """The largest difference between rows of the cache and the same ones computed anew."""
    dataset = lt.load_dataset(data)
    chosen = np.random.default_rng(0).choice(len(dataset), CHECKED, replace=False)
    some, layer = dataset.select(chosen), NET[3]
    stored, fresh = (lt.extract(some, NET[1], layers=layer, cache=at, progress=False) for at in (cache, anew))
    assert stored.report is not None and stored.report.rows_computed == 0
    return float(np.abs(np.asarray(stored[layer]) - np.asarray(fresh[layer])).max())


def say(what: str, found: str) -> None:
    print(f"| {what} | {found} |", flush=True)


if __name__ == "__main__":
    main()
