"""Coroutines run to their ends, all at once, on a loop of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import Any

__all__ = ["awaited"]


def awaited(some: Sequence[Awaitable[Any]]) -> list[Any]:
    """Run awaitables together and return what each gave, or the exception that it raised.

    The loop runs in a thread of its own, so that it may be called where another loop runs, as in a
    notebook, and is the same every time, so that clients that are bound to a loop can be kept.

    Examples
    --------
    >>> async def half(x):
    ...     return x / 2
    >>> awaited([half(1), half(3)])
    [0.5, 1.5]
    """

    async def together() -> list[Any]:
        return await asyncio.gather(*some, return_exceptions=True)

    future = asyncio.run_coroutine_threadsafe(together(), _loop(os.getpid()))
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


@lru_cache(maxsize=1)
def _loop(_process: int) -> asyncio.AbstractEventLoop:
    """Return the loop of this process, which a fork does not take along."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="gspo_rs rewards", daemon=True).start()
    return loop
