"""How many completions of a batch are done, reported now and then while it is sampled."""

import time
from collections.abc import Callable


class Progress:
    """Reports how many completions have ended.

    Parameters
    ----------
    report : callable
        Gets the number of completions that are done.
    every : float
        Seconds between two reports at least.

    Examples
    --------
    >>> progress = Progress(print, every=0)
    >>> progress.look(1)
    1
    >>> progress.add(2)
    2
    >>> progress.look(1)
    3
    """

    def __init__(self, report: Callable[[int], object], *, every: float = 0.1) -> None:
        self._report = report
        self._every = every
        self._done = 0
        self._last = float("-inf")

    def look(self, over: int) -> None:
        """Report that `over` rows of the present call have ended, unless it is too soon."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._report(self._done + over)

    def add(self, rows: int) -> None:
        """Note that all `rows` of a call are done."""
        self._done += rows
        self._report(self._done)
