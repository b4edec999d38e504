"""Rates that hold in every window, however it is laid."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Rate"]


class Rate:
    """At most so many units in any window of time, as the server counts them.

    A request takes its units before it is sent and gives them back a window after its end: it
    arrives somewhere in between, so no window of the server's clock has more. A leaky bucket, which
    most clients have, lets twice the rate pass in some window.

    Parameters
    ----------
    most : int
        Units in a window.
    window : float
        Seconds.

    Examples
    --------
    >>> async def twice(rate):
    ...     async with rate.taking(2):
    ...         pass
    ...     async with rate.taking(2):
    ...         return True
    >>> asyncio.run(twice(Rate(3, 0.01)))
    True
    """

    def __init__(self, most: int, window: float = 60.0) -> None:
        self._most, self._window = most, window
        self._used = 0  # by calls that are open, and by those of `_over`
        self._over: deque[tuple[float, int]] = deque()  # until when, how many
        self._turn = asyncio.Lock()  # who came first takes first
        self._changed = asyncio.Event()

    @property
    def most(self) -> int:
        """Units in a window, which no request may ask for more of."""
        return self._most

    def spend(self) -> None:
        """Let nothing pass for a window: another process may have taken all of it just now."""
        self._used += self._most
        self._over.append((time.monotonic() + self._window, self._most))

    @asynccontextmanager
    async def taking(self, units: int) -> AsyncIterator[_Taken]:
        """Wait for `units`, and hold them until a window after the end of the block."""
        async with self._turn:
            while self._still_used() + units > self._most:
                await self._wait()
            self._used += units
        held = _Taken(units)
        try:
            yield held
        finally:
            self._used += held.units - units
            self._over.append((time.monotonic() + self._window, held.units))
            self._changed.set()

    def _still_used(self) -> int:
        now = time.monotonic()
        while self._over and self._over[0][0] <= now:
            self._used -= self._over.popleft()[1]
        return self._used

    async def _wait(self) -> None:
        """Wait until something is given back: by the clock, or by a request that ends."""
        self._changed.clear()
        left = self._over[0][0] - time.monotonic() if self._over else None
        try:
            await asyncio.wait_for(self._changed.wait(), left)
        except TimeoutError:
            return


class _Taken:
    """What a request has taken; `units` becomes what it has used, once that is known."""

    def __init__(self, units: int) -> None:
        self.units = units
