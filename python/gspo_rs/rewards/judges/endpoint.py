"""Chat completions of a judge behind an endpoint of OpenAI's protocol."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.samplers.calls import KEY, TOO_MANY, Calls, RefusedError, UnansweredError
from gspo_rs.samplers.rate import Rate

__all__ = ["Endpoint", "Failure", "Limits", "Said"]

_PATH = "/chat/completions"
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
        Further tries of a request; two at most of one that is not answered in time.
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
        If that is no address.
    SamplerError
        If the library that speaks HTTP is not installed; names the extra.
    """

    def __init__(self, url: str, limits: Limits, *, window: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise RewardError(
                f"{url!r} is no address of a judge; it begins with http:// or https://"
            )
        self._tpm = limits.tpm
        self._calls = Calls(
            url,
            timeout=limits.timeout,
            connections=limits.concurrency,
            key=os.environ.get(KEY),
            rate=None if limits.rpm is None else Rate(limits.rpm, window),
            tokens=None if limits.tpm is None else Rate(limits.tpm, window),
            attempts=limits.retries + 1,
        )

    async def ask(self, payload: Mapping[str, Any]) -> Said | Failure:
        """Send a request, again where that may help, and return what the model said.

        Raises
        ------
        GradingError
            If the endpoint refuses the key or does not know the address or the model: no other
            request would fare better.
        """
        tokens = _most_tokens(payload)
        if self._tpm is not None and tokens > self._tpm:
            return Failure("error", f"may take {tokens} tokens, more than a minute has (tpm)", 0)
        try:
            answer = await self._calls.ask("POST", _PATH, payload, read=_said, tokens=tokens)
        except RefusedError as error:
            if not error.of_all:
                return Failure("error", error.said, error.attempts)
            raise GradingError(
                f"{error}; check the address, the name of the model, and the key in {KEY}"
            ) from error
        except UnansweredError as error:
            status: Literal["rate", "error"] = "rate" if error.status == TOO_MANY else "error"
            return Failure(status, error.said, error.attempts)
        found: Said | Failure = replace(answer.value, attempts=answer.attempts)
        return found

    def spend(self) -> None:
        """Ask for nothing for a minute, if there are rates: a process before may have."""
        self._calls.spend()

    async def close(self) -> None:
        """Close its connections."""
        await self._calls.close()


def _said(found: Any) -> Said | Failure:
    choice = found["choices"][0]
    text, reason = choice["message"].get("content"), choice.get("finish_reason")
    if refusal := choice["message"].get("refusal"):
        return Failure("parse", f"the judge refused: {refusal}", 0)
    if reason == "length":
        return Failure("parse", "the judge was cut off by its limit of tokens", 0)
    if not isinstance(text, str) or not text.strip():
        return Failure("parse", f"the judge said nothing ({reason})", 0)
    tokens = (found.get("usage") or {}).get("total_tokens") or 0
    return Said(text, 0, int(tokens))


def _most_tokens(payload: Mapping[str, Any]) -> int:
    """Return how many tokens a request can take: none has less than a byte."""
    texts = sum(len(json.dumps(one["content"]).encode()) for one in payload["messages"])
    return texts + int(payload["max_tokens"]) + _OVERHEAD
