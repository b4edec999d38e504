"""Calls to a server over HTTP, JSON there and back, repeated within bounds where that may help."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple

from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.rate import Rate

__all__ = [
    "ATTEMPTS",
    "HOPELESS",
    "KEY",
    "PATIENCE",
    "TOO_MANY",
    "Answer",
    "Calls",
    "RefusedError",
    "UnansweredError",
]

KEY = "OPENAI_API_KEY"
"""The variable of the environment with the key of an endpoint."""

ATTEMPTS = 12
"""Calls for one answer at most. The waits between them are 75 s together."""
FIRST, LONGEST = 0.5, 10.0
"""Seconds of the first wait, and of the longest; each is twice the one before."""
LONGEST_ASKED = 60.0
"""Seconds of a wait that the server asks for at most."""
TIMEOUTS = 3
"""Calls that may end without an answer in time: each of them takes the whole of it."""
PATIENCE = 5.0
"""Seconds that a server is waited for in the end: it may be gone."""
HOPELESS = 8
"""Calls that are not answered before any is, after which the others are not waited for."""
TOO_MANY = 429
_OF_ALL = frozenset({401, 403, 404, 405})
# Not 501 and 505, which say that a server will never do it.
_AGAIN = frozenset({408, 409, 425, TOO_MANY, 500, 502, 503, 504, *range(506, 600)})
_log = logging.getLogger("gspo_rs")
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class RefusedError(SamplerError):
    """The server has said no, and would again: its status, and what it said to which call.

    `of_all` tells whether no other call would fare better: the key is refused, or the address or
    the model is not there.
    """

    def __init__(self, place: str, said: str, attempts: int, status: int) -> None:
        super().__init__(f"{place} {said}")
        self.said, self.attempts, self.status = said, attempts, status
        self.of_all = status in _OF_ALL


class UnansweredError(SamplerError):
    """The server has not answered within the bounds: what was last, and its status if any."""

    def __init__(self, place: str, said: str, attempts: int = 0, status: int | None = None) -> None:
        calls = f" did not answer in {attempts} calls; last: {said}" if attempts else f": {said}"
        super().__init__(f"{place}{calls}")
        self.said, self.attempts, self.status = said, attempts, status


class Answer(NamedTuple):
    """What was answered, and by which call."""

    value: Any
    attempts: int


class Calls:
    """Asks one server, on one event loop.

    Parameters
    ----------
    url : str
        Of the server; paths are put after it.
    timeout : float
        Seconds for an answer, from its request to its last byte.
    connections : int
        Most calls at once; others wait for their turn.
    key : str, optional
        Sent as a bearer token.
    rate, tokens : Rate, optional
        Of calls and of tokens; repeated ones count.
    attempts : int
        Calls for one answer at most.
    direct : bool
        Whether proxies that the environment names are passed by.
    repeated : callable, optional
        Called before each repeated call.
    wait : callable, optional
        Waits some seconds between two calls; for tests.

    Raises
    ------
    SamplerError
        If the library that speaks HTTP is not installed; names the extra.

    Notes
    -----
    A connection that breaks, an answer that ends before its end or cannot be read, and a status
    that may pass (408, 409, 425, 429, and most from 500 on) are asked for again, after what
    ``Retry-After`` asks for. Every other status is the server's last word.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        connections: int,
        key: str | None = None,
        rate: Rate | None = None,
        tokens: Rate | None = None,
        attempts: int = ATTEMPTS,
        direct: bool = False,
        repeated: Callable[[], object] = lambda: None,
        wait: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        library = _library()
        self.url, self._timeout, self._attempts = url.rstrip("/"), timeout, attempts
        self._broken = (library.TransportError, library.DecodingError)
        self._repeated = repeated
        self._rate, self._tokens, self._wait = rate, tokens, wait or asyncio.sleep
        # A client for each connection: a pool looks at all that it has for every call.
        self._made = partial(
            library.AsyncClient,
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=not direct,
            follow_redirects=False,  # a key does not go elsewhere
            verify=library.create_ssl_context(trust_env=not direct),
        )
        self._free: list[Any] = []
        self._turns = asyncio.Semaphore(connections)
        self._gone = False

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        read: Callable[[Any], Any] = lambda found: found,
        tokens: int = 0,
        text: bool = False,
    ) -> Answer:
        """Call until there is an answer.

        Parameters
        ----------
        method, path : str
        body : JSON, optional
        read : callable
            Makes the value of the JSON that is answered; if it raises, the call is repeated.
        tokens : int
            What the call may take at most of the rate of tokens; what it has taken is read from
            the ``usage`` of the answer.
        text : bool
            Whether the answer is a text, and no JSON.

        Raises
        ------
        RefusedError
            If the server says no.
        UnansweredError
            If it has not answered after all calls, or three times not in time.
        """
        late, place = 0, f"{self.url}{path}"
        for attempt in range(1, self._attempts + 1):
            if attempt > 1:
                self._repeated()
            status, asked = None, 0.0
            try:
                reply = await self._once(method, place, body, tokens)
            except TimeoutError:
                late, said = late + 1, f"no answer within {self._timeout:g} s"
            except self._broken as error:
                late += "Timeout" in type(error).__name__
                said = f"cannot be reached: {type(error).__name__}: {error}".rstrip(": ")
                self._tell(place, said, attempt)
            else:
                self._gone = False
                status, asked = reply.status_code, _asked_wait(reply)
                if status >= 300:
                    said = f"answered {status}: {_words(reply)}"
                    if status not in _AGAIN:
                        raise RefusedError(place, said, attempt, status)
                else:
                    try:
                        return Answer(read(_said(reply, text=text)), attempt)
                    except _UNREADABLE:
                        said = f"answered what cannot be read: {_start(reply)}"
            if late == TIMEOUTS or attempt == self._attempts:
                break
            await self._wait(max(min(FIRST * 2 ** (attempt - 1), LONGEST), asked))
        raise UnansweredError(place, said, attempt, status)

    def _tell(self, place: str, said: str, attempt: int) -> None:
        """Say once, until there is an answer again, that calls are repeated: it may take long."""
        if not self._gone and attempt < self._attempts:
            self._gone = True
            _log.warning("%s %s; it is asked %d times", place, said, self._attempts)

    async def _once(self, method: str, place: str, body: Any, tokens: int) -> Any:
        async with self._turn(tokens) as taken:
            client = self._free.pop() if self._free else self._made()
            try:
                # A limit for the whole of it: the library's is for each piece that arrives.
                async with asyncio.timeout(self._timeout):
                    reply = await client.request(method, place, json=body)
            finally:
                self._free.append(client)
            if taken is not None and (used := _used(reply)):
                taken.units = used
            return reply

    @asynccontextmanager
    async def _turn(self, tokens: int) -> AsyncIterator[Any]:
        """Wait until a call that takes up to so many tokens may go."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._turns)
            if self._rate is not None:
                await stack.enter_async_context(self._rate.taking(1))
            if self._tokens is None:
                yield None
            else:
                yield await stack.enter_async_context(self._tokens.taking(tokens))

    def spend(self) -> None:
        """Let nothing pass for a window of the rates: a process before may have taken it."""
        for rate in (self._rate, self._tokens):
            if rate is not None:
                rate.spend()

    async def close(self) -> None:
        """Close the connections."""
        while self._free:
            await self._free.pop().aclose()


def _library() -> Any:
    """Return the module of the HTTP client."""
    try:
        import httpx2
    except ImportError as error:
        raise SamplerError(
            "a server is asked with httpx2: pip install 'gspo_rs[sampler]', or 'gspo_rs[judge]',"
            f" which is the same ({error})"
        ) from error
    return httpx2


def _said(reply: Any, *, text: bool) -> Any:
    """Return what was answered; None for JSON that is empty."""
    if text:
        return reply.text
    return reply.json() if reply.content else None


def _used(reply: Any) -> int:
    """Return how many tokens a call has taken; 0 where that is not told."""
    try:
        return int(reply.json()["usage"]["total_tokens"])
    except _UNREADABLE:
        return 0


def _asked_wait(reply: Any) -> float:
    """Return the seconds that a server asks to be waited, within reason; 0 where it does not."""
    given = reply.headers.get("Retry-After", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one of no zone
            return 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED) if math.isfinite(seconds) else 0.0


def _words(reply: Any) -> str:
    """Return what a server says of its refusal, in short."""
    try:
        said = reply.json()
    except (ValueError, RecursionError):
        return _start(reply)
    if isinstance(said, dict):
        said = said.get("error", said)
        said = said.get("message", said) if isinstance(said, dict) else said
    return " ".join(str(said).split())[:300]


def _start(reply: Any) -> str:
    return " ".join(reply.text.split())[:100] or "nothing"
