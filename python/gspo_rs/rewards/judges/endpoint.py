"""Chat completions from an endpoint of OpenAI's protocol: rates, retries, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.samplers.rate import Rate

__all__ = ["Endpoint", "Failure", "Limits", "Said", "client_library"]

_KEY = "OPENAI_API_KEY"
_AGAIN = (408, 409, 425, 429)  # and all from 500
_REFUSED = (401, 403, 404, 405)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
# Tokens of a request beside the bytes of its texts, generously: roles, tools, the schema.
_OVERHEAD = 256


@dataclass(frozen=True)
class Limits:
    """How much is asked of an endpoint.

    Attributes
    ----------
    concurrency : int
        Requests at once.
    rpm, tpm : int or None
        Requests and tokens a minute, in every minute; those of retries are counted.
    retries : int
        Further tries of a request.
    timeout : float
        Seconds for each.
    """

    concurrency: int = 8
    rpm: int | None = None
    tpm: int | None = None
    retries: int = 3
    timeout: float = 120.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "rpm", "tpm", "timeout"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} of a judge is {value}; it is above 0")
        if self.retries < 0:
            raise ValueError(f"retries of a judge are {self.retries}; they are at least 0")


@dataclass(frozen=True)
class Said:
    """What a model said, after how many tries, and the tokens that it took in all."""

    text: str
    attempts: int
    tokens: int


@dataclass(frozen=True)
class Failure:
    """Why there is no reply: too many requests, something else, or one that cannot be read."""

    status: Literal["rate", "error", "parse"]
    error: str
    attempts: int


class Endpoint:
    """A client of one endpoint, to be used on one event loop.

    Parameters
    ----------
    url : str
        As OpenAI's clients take it, such as ``http://localhost:8000/v1``.
    limits : Limits
    window : float
        Seconds that the rates are counted in.

    Raises
    ------
    RewardError
        If the library that speaks HTTP is not installed; names the extra.
    """

    def __init__(self, url: str, limits: Limits, *, window: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise RewardError(
                f"{url!r} is no address of a judge; it begins with http:// or https://"
            )
        self._library = client_library()
        self._url, self._limits = f"{url.rstrip('/')}/chat/completions", limits
        self._window = window
        self._client: Any = None

    async def ask(self, payload: Mapping[str, Any]) -> Said | Failure:
        """Send a request, again where that may help, and return what the model said.

        Raises
        ------
        GradingError
            If the endpoint refuses the key or does not know the address or the model: no other
            request would fare better.
        """
        self._begin()
        tokens = _most_tokens(payload)
        if self._limits.tpm is not None and tokens > self._limits.tpm:
            return Failure("error", f"may take {tokens} tokens, more than a minute has (tpm)", 0)
        failure = Failure("error", "", 0)
        for attempt in range(1, self._limits.retries + 2):
            async with self._turn(tokens) as taken:
                found, wait = await self._once(payload, attempt)
                if isinstance(found, Said) and found.tokens:
                    taken.units = found.tokens
            if isinstance(found, Said) or wait is None:
                return found
            failure = found
            if attempt <= self._limits.retries:
                await asyncio.sleep(wait)
        return failure

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _begin(self) -> None:
        """Make what belongs to the running loop."""
        if self._client is not None:
            return
        key = os.environ.get(_KEY)
        self._client = self._library.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self._limits.timeout,
            limits=self._library.Limits(max_connections=self._limits.concurrency),
            follow_redirects=False,  # a key does not go elsewhere
        )
        self._at_once = asyncio.Semaphore(self._limits.concurrency)
        limits = (self._limits.rpm, self._limits.tpm)
        self._requests, self._tokens = (
            None if n is None else Rate(n, self._window) for n in limits
        )

    @asynccontextmanager
    async def _turn(self, tokens: int) -> AsyncIterator[Any]:
        """Wait until a request with up to so many tokens may go."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._at_once)
            if self._requests is not None:
                await stack.enter_async_context(self._requests.taking(1))
            if self._tokens is None:
                yield _Nothing()
            else:
                yield await stack.enter_async_context(self._tokens.taking(tokens))

    async def _once(
        self, payload: Mapping[str, Any], attempt: int
    ) -> tuple[Said | Failure, float | None]:
        """Send a request once; with a failure that may pass, the seconds to wait."""
        wait = min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT)
        try:
            # A limit for the whole of it: the library's is for each piece that arrives.
            async with asyncio.timeout(self._limits.timeout):
                reply = await self._client.post(self._url, json=payload)
        except TimeoutError:
            late = f"gave no answer within {self._limits.timeout:g} s"
            return Failure("error", late, attempt), wait
        except (self._library.TransportError, self._library.DecodingError) as error:
            text = f"cannot be reached: {type(error).__name__}: {error}"
            return Failure("error", text, attempt), wait
        return self._read(reply, attempt, wait)

    def _read(self, reply: Any, attempt: int, wait: float) -> tuple[Said | Failure, float | None]:
        code = reply.status_code
        if code in _REFUSED:
            raise GradingError(
                f"{self._url} answered {code}: {_reason(reply)}; check the address, the name of the"
                f" model, and the key in {_KEY}"
            )
        if code != 200:
            again = code in _AGAIN or code >= 500
            status: Literal["rate", "error"] = "rate" if code == 429 else "error"
            failure = Failure(status, f"answered {code}: {_reason(reply)}", attempt)
            return failure, max(wait, _retry_after(reply)) if again else None
        try:
            return _said(reply.json(), attempt), None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            # A gateway between may answer with a page of its own.
            return Failure("error", f"answered no chat completion: {_start(reply)}", attempt), wait


def client_library() -> Any:
    """Return the module of the HTTP client."""
    try:
        import httpx2
    except ImportError as error:
        raise RewardError(
            f"a judge needs httpx2: pip install 'gspo_rs[judge]' ({error})"
        ) from error
    return httpx2


class _Nothing:
    units = 0


def _said(found: Any, attempt: int) -> Said | Failure:
    choice = found["choices"][0]
    text, reason = choice["message"].get("content"), choice.get("finish_reason")
    if refusal := choice["message"].get("refusal"):
        return Failure("parse", f"the judge refused: {refusal}", attempt)
    if reason == "length":
        return Failure("parse", "the judge was cut off by its limit of tokens", attempt)
    if not isinstance(text, str) or not text.strip():
        return Failure("parse", f"the judge said nothing ({reason})", attempt)
    tokens = (found.get("usage") or {}).get("total_tokens") or 0
    return Said(text, attempt, int(tokens))


def _most_tokens(payload: Mapping[str, Any]) -> int:
    """Return how many tokens a request can take: none has less than a byte."""
    texts = sum(len(json.dumps(one["content"]).encode()) for one in payload["messages"])
    return texts + int(payload["max_tokens"]) + _OVERHEAD


def _retry_after(reply: Any) -> float:
    """Return the seconds that a server asks to wait for, within reason; 0 where it does not."""
    try:
        found = float(reply.headers.get("retry-after", 0))
    except ValueError:  # a date
        return 0.0
    return min(max(found, 0.0), _LONGEST_WAIT) if math.isfinite(found) else 0.0


def _reason(reply: Any) -> str:
    try:
        error = reply.json()["error"]
        return str(error.get("message") if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        return _start(reply)


def _start(reply: Any) -> str:
    return " ".join(reply.text.split())[:100]
