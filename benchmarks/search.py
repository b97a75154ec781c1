"""Exact search in random rows: how near it comes to the machine, and how long faiss takes.

The machine's memory bandwidth is that of NumPy's product of all rows with one vector, and its matrix rate that of the
product of two square matrices. faiss's `IndexFlatIP` holds the same rows, divided by their norms beforehand, so that
its inner products are cosines; ours divides by norms that it computes on the way. Both answer in turns. Neighbors whose
similarities differ by less than 1e-5 count as the same: faiss computes in float32.

faiss is looked for where ``--faiss`` says, since it is no dependency: ``pip install --target DIR faiss-cpu``. Run:
python -m benchmarks.search --faiss DIR
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.setting import setting
from transfer.search.neighbors import nearest

K = 12
SQUARE = 4096  # of the matrices whose product is the machine's rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--faiss", help="folder that faiss-cpu was installed to")
    args = parser.parse_args()
    print(setting("numpy", "scipy"))
    rows = random_rows(args.rows, args.width)
    one, square = rows[0].copy(), np.random.default_rng(1).standard_normal((SQUARE, SQUARE), np.float32)
    [through], [product] = (
        alternating([lambda: rows @ one], args.runs),
        alternating([lambda: square @ square], args.runs),
    )
    bandwidth, rate = rows.nbytes / through / 1e9, 2 * SQUARE**3 / product / 1e9
    print(
        f"{args.rows:,} x {args.width} float32; matrix-vector product {bandwidth:.1f} GB/s, sgemm {rate:.0f} GFLOP/s\n"
    )
    print("| queries | layertap, ms | faiss, ms | ratio | GB/s | of the bandwidth | GFLOP/s | of the matrix rate |")
    print("|---|---|---|---|---|---|---|---|")
    index = flat_index(args.faiss, rows) if args.faiss else None
    for count in args.queries:
        queries = random_rows(count, args.width, seed=2)
        theirs = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        work: list[Callable[[], Any]] = [lambda queries=queries: nearest(rows, queries, K)]
        if index is not None:
            work.append(lambda theirs=theirs: index.search(theirs, K))
            require_same(nearest(rows, queries, K), *index.search(theirs, K))
        seconds = alternating(work, args.runs)
        ours, done = seconds[0], 2 * count * rows.size / seconds[0] / 1e9
        other = [f"{seconds[1] * 1e3:.0f}", f"{seconds[1] / ours:.2f}"] if index is not None else ["", ""]
        read = rows.nbytes / ours / 1e9
        cells = [str(count), f"{ours * 1e3:.0f}", *other, f"{read:.1f}", f"{read / bandwidth:.2f}"]
        print(f"| {' | '.join([*cells, f'{done:.1f}', f'{done / rate:.2f}'])} |", flush=True)


def random_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width), np.float32)


def alternating(work: list[Callable[[], Any]], runs: int) -> list[float]:
    """The median seconds of each, which take turns after a round that does not count."""
    seconds: list[list[float]] = [[] for _ in work]
    for number in range(runs + 1):
        for each, found in zip(work, seconds, strict=True):
            start = time.perf_counter()
            each()
            if number:
                found.append(time.perf_counter() - start)
    return [statistics.median(each) for each in seconds]


def flat_index(folder: str, rows: np.ndarray) -> Any:
    """The rows in faiss, of length 1."""
    sys.path.append(folder)
    from faiss import IndexFlatIP  # no dependency: see above

    index = IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), 2**16):
        part = rows[start : start + 2**16]
        index.add(part / np.linalg.norm(part, axis=1, keepdims=True))
    return index


def require_same(ours: Any, similarities: np.ndarray, positions: np.ndarray) -> None:
    """Raise AssertionError where faiss finds other rows, but for those that are as similar in float32."""
    np.testing.assert_allclose(1 - ours.distances, similarities, atol=1e-5)
    for mine, theirs, near in zip(ours.rows, positions, 1 - ours.distances, strict=True):
        inside = near > near[-1] + 1e-5
        assert set(mine[inside].tolist()) <= set(theirs.tolist())


if __name__ == "__main__":
    main()
