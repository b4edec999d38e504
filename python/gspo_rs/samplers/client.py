"""A server that several threads ask at once, whose calls end when it is closed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future
from typing import Any

from gspo_rs.samplers.calls import Calls, UnansweredError

__all__ = ["Client", "answered"]

_CLOSED = "the sampler was closed"


class Client:
    """Asks one server, from several threads at once.

    Parameters
    ----------
    url : str
        Of the server, without a path.
    connections : int
        Most calls at once; others wait for their turn.
    **how
        Of `Calls`.

    Notes
    -----
    Calls run on an event loop in a thread of the client, so that closing it ends those that hang.
    How often one was repeated is counted.
    """

    def __init__(self, url: str, *, connections: int = 64, **how: Any) -> None:
        self.url = url.rstrip("/")
        self._calls = Calls(url, connections=connections, repeated=self._repeated, **how)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def get(self, path: str) -> Any:
        """Return the answer to a GET; see `begin`."""
        return answered(self.begin("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        """Return the answer to a POST of JSON; see `begin`."""
        return answered(self.begin("POST", path, body))

    def begin(self, method: str, path: str, body: Any = None, *, text: bool = False) -> Future[Any]:
        """Begin a call, and return what will have the JSON, or the text, that the server answers.

        Its errors are those of `Calls.ask`, and `UnansweredError` if the client was closed.
        """
        if not self._thread.is_alive():
            raise UnansweredError(f"{self.url}{path}", _CLOSED)
        asking = self._value(method, path, body, text=text)
        return asyncio.run_coroutine_threadsafe(asking, self._loop)

    async def _value(self, method: str, path: str, body: Any, *, text: bool) -> Any:
        return (await self._calls.ask(method, path, body, text=text)).value

    def _repeated(self) -> None:
        self.count("retries")

    def count(self, what: str, number: int = 1) -> None:
        """Count what has happened."""
        with self._lock:
            self._counts[what] += number

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since this was last asked."""
        with self._lock:
            found, self._counts = dict(self._counts), Counter()
        return found

    def close(self) -> None:
        """Close the connections; calls under way fail."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._closed(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _closed(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._calls.close()


def answered(call: Future[Any]) -> Any:
    """Return the answer to a call that was begun.

    Raises
    ------
    RefusedError, UnansweredError
        As `Client.begin` says.
    """
    try:
        return call.result()
    except CancelledError as error:
        raise UnansweredError("a call", _CLOSED) from error
