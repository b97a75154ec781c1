"""The linear head against 16 fits of scikit-learn's `LogisticRegression`. Run: python -m benchmarks.heads_linear.

The peer is what one does without it: a `LogisticRegression` for each of 16 strengths, C from 1e-4 to 1e3 evenly in the
logarithm, ``max_iter=1000``, on features scaled beforehand. Its accuracy is the best of the 16 on the held-out rows,
which is more than it could know. Ours is timed as a whole: scaling, the grid on a part of the training rows, and the
chosen setting on all; its accuracy is that of the head, and beside it the best of its grid, trained on all rows and
seen on the held-out ones as the peer is. Features are rectified mixtures of 64 hidden numbers that depend on the class,
with noise, about half of them 0; a fifth of the rows are held out.

A second table has many heads in one pass: three layers of two poolings each with eight strengths, then all with three
rates each and a single strength, against one setting of one of them.

Runs alternate, each in a fresh process that has used BLAS before; medians are reported, the ratio is the median of
those of the pairs. Where other processes want the cores as well, threads of BLAS that wait for each other cost the
peer more than they bring: --threads 1 compares both sides on one core. With --strengths the peer fits so many of its
16 strengths alone, evenly spaced, and 16 fits are taken to last as long as these on average: such times are marked as
estimates.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.setting import setting

HIDDEN = 64
STRENGTHS = 16
SIDES = ("layertap", "scikit-learn")
# So far apart are the classes that accuracies are between 0.6 and 0.95, and too little or much regularisation costs.
SPREAD = {10: 0.4, 100: 0.5}
POOLINGS = (256, 512, 512, 1024, 1024, 2048)  # widths of the sets: average, and flattened twice as wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=15_000, help="rows, a fifth held out (default: 15000)")
    parser.add_argument("--width", type=int, default=512, help="features (default: 512)")
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100], help="(default: 10 100)")
    parser.add_argument("--strengths", type=int, default=STRENGTHS, help="that the peer fits (default: 16)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--threads", type=int, default=0, help="of BLAS, both sides (default: one for each core)")
    parser.add_argument("--no-heads", action="store_true", help="leave the second table out")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one[0], *map(int, args.one[1:]))))
        return

    print(setting("numpy", "scipy", "scikit-learn"), end="")
    command = " ".join(["python -m benchmarks.heads_linear", *sys.argv[1:]])
    print(f"; median of {args.runs} runs; `{command}`", flush=True)
    if args.classes:
        compare(args)
    if not args.no_heads:
        many_heads(args)


def compare(args: argparse.Namespace) -> None:
    """The table of the head and its peer."""
    fits = f"{STRENGTHS} fits" if args.strengths == STRENGTHS else f"{STRENGTHS} fits, estimated from {args.strengths}"
    columns = (
        "rows x features, classes", "layertap, s", f"scikit-learn, {fits}, s", "ratio",
        "accuracy of the head", "best of its grid", "best of the fits", "CPU s, layertap", "scikit-learn",
    )  # fmt: skip
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for classes in args.classes:
        size = (args.rows, args.width, classes, args.strengths, args.threads)
        runs = [{side: measure(side, *size) for side in SIDES} for _ in range(args.runs)]
        print(f"| {args.rows:,} x {args.width:,}, {classes} | {' | '.join(cells(runs))} |", flush=True)


def cells(runs: list[dict[str, dict[str, float]]]) -> list[str]:
    """What a line of the table says of these runs."""
    ours, theirs = SIDES

    def median(side: str, name: str) -> float:
        return statistics.median(run[side][name] for run in runs)

    ratio = statistics.median(run[theirs]["seconds"] / run[ours]["seconds"] for run in runs)
    accuracies = runs[0][ours]["accuracy"], runs[0][ours]["best"], runs[0][theirs]["best"]
    return [
        *(f"{median(side, 'seconds'):.2f}" for side in SIDES),
        f"{ratio:.1f}",
        *(f"{accuracy:.4f}" for accuracy in accuracies),
        *(f"{median(side, 'cpu_seconds'):.2f}" for side in SIDES),
    ]


def many_heads(args: argparse.Namespace) -> None:
    """The table of many heads in one pass."""
    classes = 10
    columns = (f"{args.rows:,} rows, {classes} classes", "s", "times one head")
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for kind, each in (("strengths", 8), ("rates", 8)):
        names = f"one-{kind}", f"many-{kind}"
        runs = [
            {side: measure(side, args.rows, 0, classes, each, args.threads) for side in names} for _ in range(args.runs)
        ]
        one = statistics.median(run[names[0]]["seconds"] for run in runs)
        many = statistics.median(run[names[1]]["seconds"] for run in runs)
        ratio = statistics.median(run[names[1]]["seconds"] / run[names[0]]["seconds"] for run in runs)
        heads = len(POOLINGS) * each
        print(f"| one head, 1,024 features ({kind}) | {one:.2f} | 1 |")
        title = f"{heads} heads in one pass: 3 layers x 2 poolings x {each} {kind}, 256 to 2,048 features"
        print(f"| {title} | {many:.2f} | {ratio:.1f} |", flush=True)


def measure(side: str, *size: int) -> dict[str, float]:
    """One run, in a fresh process; see `run_one` for its size."""
    numbers = map(str, size)
    command = [sys.executable, "-m", "benchmarks.heads_linear", "--one", side, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_one(side: str, rows: int, width: int, classes: int, strengths: int, threads: int) -> dict[str, float]:
    """Seconds of what a side does, and accuracies on rows that had no part in it."""
    cut = rows - rows // 5
    if side not in SIDES:
        with threadpool_limits(threads or None, "blas"):
            return run_heads(side, rows, cut, classes, strengths)
    X, y = relu_features(rows, width, classes)
    warm_up()
    with threadpool_limits(threads or None, "blas"):
        return run_ours(X, y, cut) if side == "layertap" else run_theirs(X, y, cut, strengths)


def run_ours(X: np.ndarray, y: np.ndarray, cut: int) -> dict[str, float]:
    from heads.linear.grid import train_grid
    from heads.linear.head import STRENGTHS as OURS
    from heads.linear.head import LinearHead

    watch = Watch()
    head = LinearHead().fit(X[:cut], y[:cut])
    times = watch.stop()
    [fits] = train_grid([X], y, np.arange(cut), np.arange(cut, len(y)), strengths=OURS)
    return {**times, "accuracy": head.score(X[cut:], y[cut:]), "best": max(fit.accuracy for fit in fits)}


def run_theirs(X: np.ndarray, y: np.ndarray, cut: int, strengths: int) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    every = np.geomspace(1e-4, 1e3, STRENGTHS)
    chosen = every[np.unique(np.linspace(0, STRENGTHS - 1, strengths).round().astype(int))]
    watch = Watch()
    scaler = StandardScaler().fit(X[:cut])
    train = scaler.transform(X[:cut])
    scaling = watch.stop()
    watch, fits = Watch(), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that have not converged
        for C in chosen:
            fits.append(LogisticRegression(C=C, max_iter=1000).fit(train, y[:cut]))
    fitting = watch.stop()
    times = {name: scaling[name] + fitting[name] * STRENGTHS / len(chosen) for name in scaling}
    held_out = scaler.transform(X[cut:])
    return {**times, "best": max(fit.score(held_out, y[cut:]) for fit in fits)}


def run_heads(side: str, rows: int, cut: int, classes: int, each: int) -> dict[str, float]:
    from heads.linear.grid import train_grid

    sets = [relu_features(rows, width, classes)[0] for width in POOLINGS]
    y = relu_features(rows, 1, classes)[1]
    settings: dict[str, Any] = {"strengths": (4.0 ** np.arange(2, 2 - each, -1)).tolist()}
    one: dict[str, Any] = {"strengths": [1.0]}
    if side.endswith("rates"):
        settings = {"strengths": [0.01], "learning_rates": np.geomspace(1e-4, 0.1, each).tolist(), "epochs": 10}
        one = {**settings, "learning_rates": [0.01]}
    warm_up()
    if side.startswith("one"):
        sets, settings = sets[4:5], one
    watch = Watch()
    train_grid(sets, y, np.arange(cut), np.arange(cut, rows), **settings)
    return watch.stop()


class Watch:
    """Seconds since it was made, by the clock and of the processor."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        wall, cpu = self._start
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def warm_up() -> None:
    """The first use of BLAS and of both sides costs more than the next."""
    from sklearn.linear_model import LogisticRegression

    from heads.linear.head import LinearHead

    X, y = relu_features(500, 20, 3)
    LinearHead().fit(X, y)
    LogisticRegression().fit(X, y)


def relu_features(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, width), float32, and classes (rows,), the same for every width."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    centres = SPREAD.get(classes, 0.5) * rng.standard_normal((classes, HIDDEN), np.float32)
    hidden = centres[y] + rng.standard_normal((rows, HIDDEN), np.float32)
    X = hidden @ rng.standard_normal((HIDDEN, width), np.float32) / np.float32(np.sqrt(HIDDEN))
    for start in range(0, rows, 4096):
        part = X[start : start + 4096]
        part += 0.5 * rng.standard_normal(part.shape, np.float32)
    return np.maximum(X, 0, out=X), y


if __name__ == "__main__":
    main()
