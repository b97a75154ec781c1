"""Our own solvers against scikit-learn's: `heads_ridge` and `heads_linear`, one after the other, at two sizes.

Run: python -m benchmarks.heads. It takes an hour, nearly all of it scikit-learn's.
"""

from __future__ import annotations

import subprocess
import sys

RUNS = (
    ("heads_ridge", "--runs", "5"),
    ("heads_ridge", "--rows", "40000", "--width", "2048", "--runs", "2"),
    ("heads_linear",),
    ("heads_linear", "--rows", "40000", "--width", "2048", "--strengths", "4", "--runs", "1", "--no-heads"),
)


def main() -> None:
    for name, *options in RUNS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)
        print()


if __name__ == "__main__":
    main()
