"""Coroutines run to their ends, all at once, on a loop of their own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

from gspo_rs.rewards.errors import GradingError

__all__ = ["awaited", "each"]


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


def each(call: Callable[[Any], Awaitable[Any]], items: Sequence[Any], most: int) -> list[Any]:
    """Return what `call` gives for each item, in their order, so many at once.

    The first error of the library ends the others and is raised.

    Examples
    --------
    >>> async def half(x):
    ...     return x / 2
    >>> each(half, [1, 3, 5], 2)
    [0.5, 1.5, 2.5]
    """
    left, found = iter(enumerate(items)), {}

    async def work() -> None:
        for place, item in left:
            found[place] = await call(item)

    async def every() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(most, len(items))):
                    group.create_task(work())
        except* GradingError as errors:
            raise errors.exceptions[0] from None

    (end,) = awaited([every()])
    if isinstance(end, BaseException):
        raise end
    return [found[place] for place in range(len(items))]


@lru_cache(maxsize=1)
def _loop(_process: int) -> asyncio.AbstractEventLoop:
    """Return the loop of this process, which a fork does not take along."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="gspo_rs rewards", daemon=True).start()
    return loop
