"""The ridge head against scikit-learn's `RidgeClassifierCV`, in the same run. Run: python -m benchmarks.heads_ridge.

Both fit the same 20 strengths, exactly and with leave-one-out errors, to float32 features in memory; ours also fits the
temperature of its probabilities. Features are rectified mixtures of 64 hidden numbers that depend on the class, with
noise: as correlated, as sparse and as badly conditioned as those of a net with ReLU. Runs alternate, each in a fresh
process that has used BLAS before; medians are reported, the ratio is the median of those of the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.setting import setting

HIDDEN = 64
HELD_OUT = 5000
SIDES = ("layertap", "scikit-learn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=15_000, help="rows to fit (default: 15000)")
    parser.add_argument("--width", type=int, default=512, help="features (default: 512)")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100], help="(default: 10 100)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side (default: 5)")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "ROWS", "WIDTH", "CLASSES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one[0], *map(int, args.one[1:]))))
        return

    print(setting("numpy", "scipy", "scikit-learn"))
    command = " ".join(["python -m benchmarks.heads_ridge", *sys.argv[1:]])
    print(f"20 strengths; accuracy on {HELD_OUT:,} other rows; median of {args.runs} runs; `{command}`\n")
    columns = ("rows x features, classes", *(f"{side}, s" for side in SIDES), "ratio", *(f"{s}, acc." for s in SIDES))
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for classes in args.classes:
        runs = [{side: measure(side, args.rows, args.width, classes) for side in SIDES} for _ in range(args.runs)]
        print(f"| {args.rows:,} x {args.width:,}, {classes} | {' | '.join(cells(runs))} |", flush=True)


def measure(side: str, rows: int, width: int, classes: int) -> dict[str, float]:
    """One run, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.heads_ridge", "--one", side, str(rows), str(width), str(classes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def cells(runs: list[dict[str, dict[str, float]]]) -> list[str]:
    """What a line of the table says of these runs."""
    ours, theirs = SIDES
    ratio = statistics.median(run[theirs]["seconds"] / run[ours]["seconds"] for run in runs)
    seconds = [f"{statistics.median(run[side]['seconds'] for run in runs):.2f}" for side in SIDES]
    return [*seconds, f"{ratio:.1f}", *(f"{runs[0][side]['accuracy']:.4f}" for side in SIDES)]


def run_one(side: str, rows: int, width: int, classes: int) -> dict[str, float]:
    """Seconds of a fit, and accuracy on rows that had no part in it."""
    from sklearn.linear_model import RidgeClassifierCV

    from heads.ridge.classifier import RidgeHead
    from heads.ridge.path import RATIOS

    X, y = relu_features(rows + HELD_OUT, width, classes)
    unit = float(X[:rows].var(0, dtype=np.float64).sum()) * rows / min(rows, width)
    alphas = (RATIOS * unit).tolist()
    head = RidgeHead(alphas) if side == "layertap" else RidgeClassifierCV(alphas=alphas, store_cv_results=True)
    RidgeHead().fit(X[:500], y[:500])  # the first use of BLAS and LAPACK starts their threads
    RidgeClassifierCV().fit(X[:500], y[:500])
    start = time.perf_counter()
    head.fit(X[:rows], y[:rows])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "accuracy": head.score(X[rows:], y[rows:]), "alpha": head.alpha_}


def relu_features(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, width), float32, about half of them 0, and classes (rows,)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    centres = 0.5 * rng.standard_normal((classes, HIDDEN), np.float32)
    mixture = rng.standard_normal((HIDDEN, width), np.float32) / np.float32(np.sqrt(HIDDEN))
    X = (centres[y] + rng.standard_normal((rows, HIDDEN), np.float32)) @ mixture
    X += 0.1 * rng.standard_normal((rows, width), np.float32)
    return np.maximum(X, 0, out=X), y


if __name__ == "__main__":
    main()
