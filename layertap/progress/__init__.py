"""Progress of workflows: a bar in a terminal or a notebook, plain lines elsewhere, or whatever the caller shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from layertap.progress.shown import ShownProgress

Progress = Callable[[int, int], None]  # is called with the number of items done, and of all
# Given what is counted, in the plural, a context manager that shows the progress for as long as it is open.
ProgressBar = Callable[[str], AbstractContextManager[Progress | None]]


def progress_bar(what: str) -> AbstractContextManager[Progress]:
    """A `ProgressBar` for where this process runs. Nothing is shown before the first item is done.

    Parameters
    ----------
    what : str
        What is counted, in the plural: ``images``.

    Examples
    --------
    >>> with progress_bar("images") as progress:
    ...     progress(3, 10)
    """
    return ShownProgress(what)


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
