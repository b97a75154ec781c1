"""Progress of workflows: a bar in a terminal, in a log and in a notebook, or whatever the caller shows instead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int, int], None]  # is called with the number of items done, and of all
# Given what is counted, in the plural, a context manager that shows the progress for as long as it is open.
ProgressBar = Callable[[str], AbstractContextManager[Progress | None]]


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A `ProgressBar` of tqdm. Nothing is shown before the first item is done.

    Parameters
    ----------
    what : str
        What is counted, in the plural: ``images``.

    Examples
    --------
    >>> with progress_bar("images") as progress:
    ...     progress(3, 10)
    """
    # Here, because most commands show no such bar.
    from tqdm.auto import tqdm

    bars: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(desc=what, total=total, leave=False))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


def no_progress(what: str) -> AbstractContextManager[None]:
    """A `ProgressBar` that shows nothing.

    Parameters
    ----------
    what : str
        What is counted, in the plural: ``images``.
    """
    return nullcontext()


def progress_bars(progress: bool | ProgressBar) -> ProgressBar:
    """What shows the progress of a workflow.

    Parameters
    ----------
    progress : bool or callable
        Whether bars are shown, or a `ProgressBar` that shows them in a way of its own.

    Examples
    --------
    >>> progress_bars(False) is no_progress
    True
    """
    if isinstance(progress, bool):
        return progress_bar if progress else no_progress
    return progress
