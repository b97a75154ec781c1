"""The file `head.npz`, which holds the arrays of a linear head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from feature_cache.errors import DamagedFile, one_line
from feature_cache.files import checked

FILE = "head.npz"


def read_arrays(
    folder: Path, names: Iterable[str], check: Callable[[dict[str, np.ndarray]], None]
) -> dict[str, np.ndarray]:
    """The arrays of these names in ``head.npz``, as `np.savez` wrote them into `folder`.

    Parameters
    ----------
    check : callable
        Raises any exception where the arrays do not belong to a head.

    Raises
    ------
    DamagedFile
        When the file cannot be read, or holds something else.
    """
    file = folder / FILE
    try:
        arrays = checked.read_arrays(file, names)
        check(arrays)
    except Exception as error:  # `check` may raise any exception
        raise DamagedFile(
            f"the head {file} cannot be read ({one_line(error, with_type=True)}); train it again."
        ) from error
    return arrays
