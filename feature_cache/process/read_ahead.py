"""Reading ahead: the next items are prepared in threads while the caller works on the present one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def read_ahead(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """The same items in the same order, which a thread takes from `items` before the caller needs them.

    Parameters
    ----------
    items : iterable
        An iterator or a generator does its work in the thread, and must not be used by anybody else.
    depth : int
        The number of items that may be ready, or in preparation, while the caller works on one. With 0 there is no
        thread.

    Raises
    ------
    Exception
        Whatever `items` raises, at the place of the item that it could not produce.

    Notes
    -----
    If the caller abandons the iteration, the thread finishes the item that it works on and ends.

    Examples
    --------
    >>> list(read_ahead((number**2 for number in range(4)), depth=2))
    [0, 1, 4, 9]
    """
    if depth < 1:
        yield from items
        return
    iterator = iter(items)
    for item in map_ahead(lambda _: next(iterator, _END), repeat(None), depth=depth):
        if item is _END:
            return
        yield item  # type: ignore[misc]  # mypy does not see that the end is excluded


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    depth: int,
    threads: int = 1,
    first: int = 0,
    pool: ThreadPoolExecutor | None = None,
) -> Iterator[Result]:
    """``function(item)`` for each item in order, computed in threads before the caller needs it.

    Parameters
    ----------
    items : iterable
        It is advanced in the thread of the caller, only as far as `depth` allows.
    depth : int
        The number of results that may be ready, or in preparation, while the caller works on one.
    threads : int
        The number of threads that call `function`.
    first : int
        The depth at the start, until the first result is ready, where it is larger than `depth`: it fills the time
        that the caller takes to prepare itself.
    pool : ThreadPoolExecutor, optional
        An executor that calls `function`, in place of new threads. It is left running.

    Raises
    ------
    Exception
        Whatever `function` raises, at the place of the result that it could not produce, and whatever `items` raises.

    Examples
    --------
    >>> list(map_ahead(str.upper, "abc", depth=2, threads=2))
    ['A', 'B', 'C']
    """
    pending: deque[Future[Result]] = deque()
    iterator = iter(items)
    executor = pool or ThreadPoolExecutor(threads, thread_name_prefix="layertap-ahead")
    most = max(depth, first) + 1  # one of them is handed over at once
    try:
        while True:
            while len(pending) < most and (item := next(iterator, _END)) is not _END:
                pending.append(executor.submit(function, item))  # type: ignore[arg-type]
            most = depth + 1
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        if not pool:
            # Without waiting: the garbage collector may close this generator in any thread, which may hold a lock.
            executor.shutdown(wait=False, cancel_futures=True)
