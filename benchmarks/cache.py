"""The feature cache against a memory-mapped .npy file and against h5py, in the same run. Run: make bench.

Vectors and maps are written once, as segments and as an .npy file, and read three ways: by `Space.rows`, by
``np.load(mmap_mode="r")``, and by h5py from the same segments, with the sorted indices that it demands. Everything
is in the page cache. Sides alternate within one process, after a pass of each that is not counted; rates are
medians, ratios medians of the pairs. It takes about 4 GB of disk and 6 GB of memory for a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from benchmarks.setting import setting
from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.segments.layout import FEATURES, INDEX_FILE

Rates = dict[str, list[float]]
Batches = Callable[[], Iterable[np.ndarray]]

MAP_SHAPE = (14, 14, 512)
SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(224, 224))
# Of a normal distribution cut below this, 85 % are zeros: as sparse as the last maps of a net with ReLU.
SPARSE = 1.0364
# Bytes of the random batches that are read again and again; fewer where h5py has to decompress them.
BATCHES_BYTES = 800 * 10**6
COMPRESSED_BYTES = 200 * 10**6
# A timing takes at least this long.
SECONDS = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="vectors (default: 60000)")
    parser.add_argument("--width", type=int, default=4096, help="their length (default: 4096)")
    parser.add_argument("--maps", type=int, default=2000, help="maps of 14 x 14 x 512 (default: 2000)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="rows to look up (default: 1000000)")
    parser.add_argument("--segments", type=int, default=300, help="segments they are in (default: 300)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each side (default: 9)")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a temporary folder)")
    parser.add_argument("--look-up", nargs=2, metavar=("FOLDER", "KEYS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look_up:
        print(json.dumps(look_up_once(Path(args.look_up[0]), int(args.look_up[1]))))
        return

    print(setting("numpy", "h5py", "hdf5plugin", "zstandard"), end="")
    command = " ".join(["python -m benchmarks.cache", *sys.argv[1:]])
    print(f", HDF5 {h5py.version.hdf5_version}; page cache warm, median of {args.runs} runs; `{command}`")
    for part in args.only:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            PARTS[part](Path(scratch), args)


def bench_vectors(scratch: Path, args: argparse.Namespace) -> None:
    bench_rows(scratch, (args.rows, args.width), 256, args.runs)


def bench_maps(scratch: Path, args: argparse.Namespace) -> None:
    bench_rows(scratch, (args.maps, *MAP_SHAPE), 32, args.runs)


def bench_rows(scratch: Path, shape: tuple[int, ...], size: int, runs: int) -> None:
    """All that is done with rows of one shape, in batches of `size`."""
    title = f"{' x '.join(f'{side:,}' for side in shape)} float32"
    print(
        f"\n| {title} | layertap | .npy map | h5py | ratio to .npy | ratio to h5py |\n|---|---|---|---|---|---|",
        flush=True,
    )
    rng = np.random.default_rng(0)
    data, digests = rng.standard_normal(shape, np.float32), rng.integers(0, 256, (shape[0], 16), np.uint8)
    task = Task(scratch, data, digests, size, runs)
    report("write and sync, rows/s", task.write())
    sources = open_sources(scratch, digests, size)
    places = task.random_places(BATCHES_BYTES)
    report(f"random batches of {size}, rows/s", task.compare({n: each(s.at(places)) for n, s in sources.items()}))
    report("shuffled epoch, rows/s", task.compare({n: each(s.shuffled) for n, s in sources.items()}))
    report("shuffled epoch, summed, rows/s", task.compare({n: each(s.shuffled, np.sum) for n, s in sources.items()}))
    again = {name: each(partial(first_epoch, scratch, digests, size, name)) for name in sources}
    report("first shuffled epoch, opening too, rows/s", task.compare(again))
    report("in order, copied, rows/s", task.compare({n: each(s.in_order, np.array) for n, s in sources.items()}))
    report("in order, summed, rows/s", task.compare({n: each(s.in_order, np.sum) for n, s in sources.items()}))

    (scratch / "data.npy").unlink()
    shutil.rmtree(scratch / "cache")
    np.maximum(np.subtract(data, SPARSE, out=data), 0, out=data)
    fill(scratch / "cache", data, digests, size, compress=True)
    sources = open_sources(scratch, digests, size, "layertap", "h5py")
    places = task.random_places(COMPRESSED_BYTES)
    rates = task.compare({n: each(s.at(places)) for n, s in sources.items()})
    report(f"random batches of {size}, compressed, rows/s", rates)
    ratio = data.nbytes / FeatureCache(scratch / "cache")[SPEC].nbytes
    print(f"\nCompressed, with {(data == 0).mean():.0%} zeros: {ratio:.2f} times smaller.", flush=True)


@dataclass
class Task:
    """Rows, and how they are timed."""

    scratch: Path
    data: np.ndarray
    digests: np.ndarray
    size: int
    runs: int

    def random_places(self, total_bytes: int) -> list[np.ndarray]:
        """Positions without repeats in a batch, for as many batches as make up these bytes."""
        rng, size = np.random.default_rng(1), min(self.size, len(self.data))
        count = max(4, total_bytes // (self.data[0].nbytes * size))
        return [rng.choice(len(self.data), size, replace=False) for _ in range(count)]

    def write(self) -> Rates:
        """Rates of writing everything; what is written last remains."""

        def npy() -> int:
            with (self.scratch / "data.npy").open("wb") as file:
                np.save(file, self.data)
                file.flush()
                os.fsync(file.fileno())
            return len(self.data)

        def layertap() -> int:
            return fill(self.scratch / "cache", self.data, self.digests, self.size)

        def clear(name: str) -> None:
            if name == "layertap":
                shutil.rmtree(self.scratch / "cache", ignore_errors=True)
            else:
                (self.scratch / "data.npy").unlink(missing_ok=True)
            os.sync()  # what was written before is not waited for in this time
            # A virtual machine may have given free memory back to its host, and whoever writes first waits for it.
            np.ones(3 * self.data.nbytes, np.uint8)

        return self.compare({"layertap": layertap, ".npy map": npy}, before=clear)

    def compare(self, sides: dict[str, Callable[[], int]], before: Callable[[str], None] | None = None) -> Rates:
        """Rows a second of each side, run for run; each side returns the number of its rows."""
        rates: Rates = {name: [] for name in sides}
        repeats = dict.fromkeys(sides, 1)
        for run in range(self.runs + 1):
            names = list(sides)
            for name in names[run % len(names) :] + names[: run % len(names)]:
                if before:
                    before(name)
                start = time.perf_counter()
                rows = sum(sides[name]() for _ in range(repeats[name]))
                seconds = time.perf_counter() - start
                if run:
                    rates[name].append(rows / seconds)
                elif not before:  # the first run warms up, and tells how long one takes
                    repeats[name] = max(1, round(SECONDS / seconds))
        return rates


@dataclass
class Source:
    """One way to read: batches at some positions, all in random order, and all as they lie."""

    read: Callable[[np.ndarray], np.ndarray]
    shuffled: Batches
    in_order: Batches

    def at(self, places: list[np.ndarray]) -> Batches:
        return lambda: map(self.read, places)


def open_sources(scratch: Path, digests: np.ndarray, size: int, *only: str) -> dict[str, Source]:
    """The ways to read what is in `scratch`, by name."""
    starts = range(0, len(digests), size)

    def shuffled(read: Callable[[np.ndarray], np.ndarray]) -> Batches:
        order = np.random.default_rng(0).permutation(len(digests))
        return lambda: (read(order[start : start + size]) for start in starts)

    def layertap() -> Source:
        rows = FeatureCache(scratch / "cache")[SPEC].rows(digests)
        return Source(
            rows.__getitem__,
            lambda: (batch for batch, _ in rows.batches(size, shuffle=True)),
            lambda: (rows[start : start + size] for start in starts),
        )

    def npy() -> Source:
        rows = np.load(scratch / "data.npy", mmap_mode="r")
        return Source(rows.__getitem__, shuffled(rows.__getitem__), lambda: (rows[a : a + size] for a in starts))

    def hdf5() -> Source:
        rows = Hdf5Rows(FeatureCache(scratch / "cache")[SPEC], digests)
        return Source(rows.read, shuffled(rows.read), lambda: (rows.slice(a, a + size) for a in starts))

    ways = {"layertap": layertap, ".npy map": npy, "h5py": hdf5}
    return {name: way() for name, way in ways.items() if not only or name in only}


def first_epoch(scratch: Path, digests: np.ndarray, size: int, name: str) -> Iterable[np.ndarray]:
    """Every batch, from files that are opened for it; layertap checks each row then."""
    return open_sources(scratch, digests, size, name)[name].shuffled()


class Hdf5Rows:
    """Rows read by h5py from segments, in the order of `digests`."""

    def __init__(self, space: Space, digests: np.ndarray) -> None:
        files = [h5py.File(space.folder / listed.name, "r") for listed in space.index.listed]
        self._datasets = [file[FEATURES] for file in files]
        ids, starts = space.locate(digests, np.zeros(len(digests), np.uint32)), space.index.starts
        self._parts = np.searchsorted(starts, ids, side="right") - 1
        self._rows = ids - starts[self._parts]

    def read(self, positions: np.ndarray) -> np.ndarray:
        """Fancy indexing, in ascending order as h5py demands."""
        parts, rows = self._parts[positions], self._rows[positions]
        out = np.empty((len(positions), *self._datasets[0].shape[1:]), np.float32)
        for part in np.unique(parts):
            here = np.flatnonzero(parts == part)
            here = here[np.argsort(rows[here])]
            out[here] = self._datasets[part][rows[here]]
        return out

    def slice(self, start: int, stop: int) -> np.ndarray:
        """Consecutive rows, one slice for each segment that has some."""
        parts, rows = self._parts[start:stop], self._rows[start:stop]
        bounds = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(parts)]
        pieces = [
            self._datasets[parts[a]][rows[a] : rows[b - 1] + 1] for a, b in zip(bounds[:-1], bounds[1:], strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def fill(folder: Path, data: np.ndarray, digests: np.ndarray, size: int, *, compress: bool = False) -> int:
    """Write a cache of these rows in batches, as an extraction does, and say how many."""
    with FeatureCache(folder)[SPEC].writer({}, compress=compress) as writer:
        for start in range(0, len(data), size):
            writer.append(digests[start : start + size], data[start : start + size])
    return len(data)


def each(batches: Batches, use: Callable[[np.ndarray], object] = len) -> Callable[[], int]:
    """What is timed: go through all batches, and say how many rows there were."""

    def run() -> int:
        rows = 0
        for batch in batches():
            use(batch)
            rows += len(batch)
        return rows

    return run


def report(task: str, rates: Rates) -> None:
    """One line of the table; sides that were not timed are left blank."""
    names = ("layertap", ".npy map", "h5py")
    cells = [f"{statistics.median(rates[name]):,.0f}" if name in rates else "" for name in names]
    for name in names[1:]:
        pairs = zip(rates["layertap"], rates.get(name, ()), strict=False)
        ratios = [ours / theirs for ours, theirs in pairs]
        cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
    print(f"| {task} | {' | '.join(cells)} |", flush=True)


def bench_keys(scratch: Path, args: argparse.Namespace) -> None:
    """Opening and look-up among many rows in many segments, each run in a fresh process."""
    space = FeatureCache(scratch)[SPEC]
    digests = many_digests(args.keys)
    bounds = np.linspace(0, args.keys, args.segments + 1).astype(int)
    with space.writer({}) as writer:
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            writer.append(digests[start:stop], np.zeros((stop - start, 4), np.float32))
            writer.commit()
    found = []
    for _ in range(args.runs + 1):
        (space.folder / INDEX_FILE).unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.cache", "--look-up", str(scratch), str(args.keys)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    print(f"\n| {args.keys:,} rows in {args.segments} segments | |\n|---|---|")
    for name in found[0]:
        print(f"| {name} | {statistics.median(one[name] for one in found[1:]):.2g} |", flush=True)


def look_up_once(folder: Path, keys: int) -> dict[str, float]:
    """Times of what a new process does with a large space, and the memory it takes for that."""
    digests = many_digests(keys)[np.random.default_rng(1).permutation(keys)]
    before = peak_memory()
    times = [time.perf_counter()]
    spaces = [FeatureCache(folder)[SPEC] for _ in range(2)]
    for space in spaces:
        _ = space.index
        times.append(time.perf_counter())
    for _ in range(2):
        assert spaces[1].has(digests).all()
        times.append(time.perf_counter())
    names = ("open without an index, s", "open with it, s", "look up all in random order, s", "look up again, s")
    return {
        **dict(zip(names, np.diff(times).tolist(), strict=True)),
        "memory for all, MiB": (peak_memory() - before) / 2**20,
    }


def peak_memory() -> int:
    """Most bytes of memory that this process has had; unlike ru_maxrss not those of its parent."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def many_digests(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16), np.uint8)


PARTS = {"vectors": bench_vectors, "maps": bench_maps, "keys": bench_keys}

if __name__ == "__main__":
    assert hdf5plugin.FILTERS  # h5py reads Zstandard through it
    main()
