"""How fast items are done, and how long the rest takes: only once that is known well enough to be told."""

from __future__ import annotations

from collections import deque

from layertap.units import time_text

WINDOW_SECONDS = 15.0  # of which the rate is taken, so that it follows a change
LEAST_INTERVALS = 3  # between reports that a rate is taken of
LEAST_SECONDS = 1.0
JOINED_SECONDS = 0.1  # reports that come faster count as one


class Pace:
    """The rate of the last seconds.

    The items of the first report are left out: their time includes whatever starts the work.

    Examples
    --------
    >>> pace = Pace()
    >>> for second in range(5):
    ...     pace.add(8 * second, 80, 1.0 * second)
    >>> pace.rate, pace.left
    (8.0, 6.0)
    """

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque()  # seconds, and items done
        self._total = 0

    def add(self, done: int, total: int, now: float) -> None:
        """Take note that `done` of `total` items are done at the time `now`, in seconds.

        Fewer items than before, or another total, are the beginning of other work.
        """
        reports = self._reports
        if reports and (done < reports[-1][1] or total != self._total):
            reports.clear()
        self._total = total
        if len(reports) > 1 and now - reports[-2][0] < JOINED_SECONDS:
            reports.pop()
        reports.append((now, done))
        while len(reports) > LEAST_INTERVALS + 1 and now - reports[1][0] >= WINDOW_SECONDS:
            reports.popleft()

    @property
    def rate(self) -> float | None:
        """Items a second; None where too few reports are known, or of too short a time."""
        if len(self._reports) <= LEAST_INTERVALS:
            return None
        (start, before), (end, done) = self._reports[0], self._reports[-1]
        if end - start < LEAST_SECONDS or done <= before:
            return None
        return (done - before) / (end - start)

    @property
    def left(self) -> float | None:
        """The seconds that are left at this rate; None where it is not known, or all is done."""
        rate, done = self.rate, self._reports[-1][1] if self._reports else 0
        return (self._total - done) / rate if rate is not None and done < self._total else None


def rate_text(rate: float) -> str:
    """A rate in few digits; the time for one where that is more than a second.

    Examples
    --------
    >>> rate_text(1234.5), rate_text(2.34), rate_text(0.05)
    ('1,234/s', '2.3/s', '20 s each')
    """
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{time_text(1 / rate)} each"


def left_text(seconds: float) -> str:
    """A time that is left, as exactly as an estimate can be.

    Examples
    --------
    >>> left_text(0.2), left_text(26.3), left_text(97), left_text(1234)
    ('1 s left', '26 s left', '1 min 40 s left', '21 min left')
    """
    if seconds < 57.5:
        return f"{max(1, round(seconds))} s left"
    if seconds < 595:
        return f"{time_text(10 * round(seconds / 10))} left"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min left" if minutes >= 60 else f"{minutes} min left"
