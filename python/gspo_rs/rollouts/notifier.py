"""A notifier that wakes threads and tasks waiting for something to be available."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio

__all__ = ["Notifier"]

T = TypeVar("T")


class Notifier(Generic[T]):
    """Wakes all waiters, which then check for themselves.

    Parameters
    ----------
    look : callable of float
        Takes the time (`time.monotonic`) and returns what is there, or None.
    due : callable of float
        Takes the time and returns when to look again though nobody rings, or None.
    """

    def __init__(self, look: Callable[[float], T | None], due: Callable[[float], float | None]):
        self._look, self._due = look, due
        self._changed = threading.Condition()
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake all: a waiter that is interrupted would take the only call with it."""
        with self._changed:
            self._changed.notify_all()
            # A copy: a task that is collected here takes itself off.
            for wake in tuple(self._waiting):
                loop = wake.get_loop()
                try:
                    loop.call_soon_threadsafe(_settle, wake)
                except RuntimeError:
                    # A loop closed with a task in it runs no more: not the ringer's fault.
                    if not loop.is_closed():
                        raise

    def wait(self, timeout: float | None) -> T:
        """Return what is there as soon as it is; `TimeoutError` after `timeout` seconds."""
        end = _end(timeout)
        with self._changed:
            while True:
                now = time.monotonic()
                if (found := self._look(now)) is not None:
                    return found
                patience = self._patience(now, end)
                self._changed.wait(patience and min(patience, threading.TIMEOUT_MAX))

    async def wait_async(self, timeout: float | None) -> T:
        """Wait as a task of the running event loop."""
        import asyncio  # a third of the time that `import gspo_rs` may take

        end = _end(timeout)
        while True:
            wake = asyncio.get_running_loop().create_future()
            with self._changed:
                now = time.monotonic()
                # No await between finding and returning: a cancelled task takes nothing along.
                if (found := self._look(now)) is not None:
                    return found
                patience = self._patience(now, end)
                self._waiting.add(wake)
            try:
                await asyncio.wait([wake], timeout=patience)
            finally:
                with self._changed:
                    self._waiting.discard(wake)

    def _patience(self, now: float, end: float | None) -> float | None:
        if end is not None and now >= end:
            raise TimeoutError("no group was ready in time")
        times = [moment for moment in (self._due(now), end) if moment is not None]
        return max(0.0, min(times) - now) if times else None


def _end(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if timeout != timeout:
        raise ValueError(f"timeout is {timeout!r}; it is seconds, or None to wait without end")
    return time.monotonic() + timeout


def _settle(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
