"""A server over HTTP: JSON there and back, asked again within bounds where it may yet answer."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from typing import Any

from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.rate import Rate

__all__ = ["ATTEMPTS", "Client", "RefusedError", "UnansweredError", "answered"]

ATTEMPTS = 12
"""Calls for one answer at most. The waits between them double up to `LONGEST`: 75 s together."""
LONGEST = 10.0
"""Seconds of one wait at most, also where the server asks for more."""
_FIRST = 0.05
_TIMEOUTS = 2
"""Calls that may end without an answer in time: each of them takes the whole of it."""
_CLOSED = "the sampler was closed"
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class RefusedError(SamplerError):
    """The server has said no, and would again: its status and words."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class UnansweredError(SamplerError):
    """The server has not answered within the bounds."""


class Client:
    """Asks one server, from several threads at once.

    Parameters
    ----------
    url : str
        Of the server, without a path.
    timeout : float
        Seconds for an answer.
    connections : int
        Most calls at once; others wait for their turn.
    key : str, optional
        Sent as a bearer token.
    rate : Rate, optional
        Of calls, repeated ones included.
    wait : callable, optional
        Waits some seconds between two calls; for tests.

    Notes
    -----
    A connection that breaks, an answer that ends before its end or is no JSON, and a status that
    may pass (429 and those of a server that is busy or starts) are asked for again. Every other
    status is the server's last word. How often that was so is counted.

    Calls run on an event loop in a thread of the client, so that closing it ends those that hang.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        connections: int = 64,
        key: str | None = None,
        rate: Rate | None = None,
        wait: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        library = _library()
        self.url, self.timeout = url.rstrip("/"), timeout
        self._wait, self._errors = wait, (library.TransportError, ValueError)
        limits = library.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # No proxy of the environment stands between a run and its server.
        self._http = library.AsyncClient(
            timeout=timeout, limits=limits, headers=headers, trust_env=False
        )
        self._turns, self._rate = asyncio.Semaphore(connections), rate
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

    def begin(self, method: str, path: str, body: Any = None) -> Future[Any]:
        """Begin a call, and return what will have the JSON that the server answers.

        Its errors are `RefusedError`, if the server says no (names address, status and its words),
        and `UnansweredError`, if it has not answered after `ATTEMPTS` calls, or not in time after
        three, or the client was closed.
        """
        if not self._thread.is_alive():
            raise UnansweredError(f"{self.url}{path}: {_CLOSED}")
        return asyncio.run_coroutine_threadsafe(self._asked(method, path, body), self._loop)

    async def _asked(self, method: str, path: str, body: Any) -> Any:
        late = 0
        for attempt in range(ATTEMPTS):
            if attempt:
                self.count("retries")
            pause = min(_FIRST * 2**attempt, LONGEST)
            try:
                answer = await self._answer(method, path, body)
                if answer.status_code < 300:
                    return answer.json() if answer.content else None
                said = f"{answer.status_code}, {_words(answer)}"
                if answer.status_code not in _AGAIN:
                    raise RefusedError(f"{self.url}{path} answered {said}", answer.status_code)
                pause = max(pause, min(_pause(answer), LONGEST))
            except TimeoutError:
                late, said = late + 1, f"no answer within {self.timeout:g} s"
            except self._errors as error:
                said = f"{type(error).__name__}: {error}".rstrip(": ")
                late += "Timeout" in said
            if late > _TIMEOUTS:
                break
            await self._wait(pause)
        calls = f"{attempt + 1} calls"
        raise UnansweredError(f"{self.url}{path} did not answer in {calls}; last {said}")

    async def _answer(self, method: str, path: str, body: Any) -> Any:
        async with self._turns, nullcontext() if self._rate is None else self._rate.taking(1):
            # A limit for the whole of it: the library's is for each piece that arrives.
            async with asyncio.timeout(self.timeout):
                return await self._http.request(method, self.url + path, json=body)

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
        await self._http.aclose()


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
        raise UnansweredError(_CLOSED) from error


def _library() -> Any:
    """Return the module of the HTTP client."""
    try:
        import httpx2
    except ImportError as error:
        raise SamplerError(
            f"a server is asked with httpx2: pip install 'gspo_rs[sampler]' ({error})"
        ) from error
    return httpx2


def _pause(answer: Any) -> float:
    """Return the seconds that a server asks to be waited; 0 where it says none, or a date."""
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 0.0


def _words(answer: Any) -> str:
    """Return what a server says of its refusal, in short."""
    try:
        said = answer.json()
    except ValueError:
        said = answer.text
    if isinstance(said, dict):
        said = said.get("error", said)
        said = said.get("message", said) if isinstance(said, dict) else said
    return " ".join(str(said).split())[:300] or "no words"
