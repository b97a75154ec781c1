"""Pieces of files elsewhere: fetched by threads before they are needed, and kept in memory for a while.

A request to a server takes long, whatever it asks for. So several are on their way while images are decoded and
computed, and what was fetched is kept for the next who needs it, up to `KEPT_BYTES` in all, whatever is read.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from feature_cache.errors import Unreachable
from feature_cache.remote.access import CONNECTIONS

KEPT_BYTES = 2**28
_NUMBERS = itertools.count()


class Pieces:
    """Pieces by their keys, those that were asked for last; several threads may use it.

    Parameters
    ----------
    threads : int
        The number of pieces that are fetched at a time.
    most : int
        The most bytes that are kept.

    Examples
    --------
    >>> pieces = Pieces(threads=1)
    >>> _ = pieces.start("a", 2, lambda: b"ab")
    >>> pieces.read("a", 2, lambda: b"this is not called")
    b'ab'
    """

    def __init__(self, threads: int = CONNECTIONS, most: int = KEPT_BYTES) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="layertap-fetch")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[int, Future[bytes]]] = OrderedDict()
        self._bytes, self._most = 0, most

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def start(self, key: Hashable, size: int, fetch: Callable[[], bytes]) -> Future[bytes]:
        """The piece with this key, which is fetched now where it is neither kept nor on its way.

        Parameters
        ----------
        size : int
            The number of bytes that it has.
        fetch : callable
            It is called in a thread.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
            future = self._pool.submit(fetch)
            self._kept[key] = size, future
            self._bytes += size
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][0]
            return future

    def read(self, key: Hashable, size: int, fetch: Callable[[], bytes]) -> bytes:
        """The bytes of a piece; for the parameters see `start`.

        Raises
        ------
        Exception
            Whatever `fetch` raises; the next who needs the piece fetches it again.
        """
        future = self.start(key, size, fetch)
        try:
            return future.result()
        except CancelledError:  # for an outage that another thread has met
            return fetch()
        except Exception as error:
            with self._lock:
                if self._kept.get(key, (0, None))[1] is future:
                    self._bytes -= self._kept.pop(key)[0]
                if isinstance(error, Unreachable):  # the process could not end before all had been tried as long
                    self._forget_waiting()
            raise

    def _forget_waiting(self) -> None:
        """Drop the pieces that no thread has begun to fetch."""
        for key in [key for key, (_, future) in self._kept.items() if future.cancel()]:
            self._bytes -= self._kept.pop(key)[0]


def unversioned() -> int:
    """A key for the pieces of a file of which the server says no version: nobody else shares them."""
    return next(_NUMBERS)


PIECES = Pieces()  # of this process
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PIECES.__init__)  # type: ignore[misc]  # the threads stay with the parent
