"""Requests to a judge for many rows at once: from the cache, or from its endpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gspo_rs.rewards.awaited import awaited, each
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.judges.cache import Cache, digest_of
from gspo_rs.rewards.judges.endpoint import Endpoint, Failure, Limits, Said
from gspo_rs.rewards.library.texts import said

__all__ = ["Answered", "Judge", "Requests", "values_of"]


@dataclass(frozen=True)
class Judge:
    """Where a judge is and how it is asked.

    Attributes
    ----------
    url : str
        Such as ``http://localhost:8000/v1``.
    model : str
        The name that the endpoint knows it by.
    rubric : Path
        A text with places such as ``{{ prompt }}`` and ``{{ completion }}``.
    max_tokens : int
        Of a reply.
    limits : Limits
    cache : Path or None
        Folder of replies that are not asked for again.
    window : float
        Seconds that the rates are counted in.
    """

    url: str
    model: str
    rubric: Path
    max_tokens: int = 1024
    limits: Limits = field(default_factory=Limits)
    cache: Path | None = None
    window: float = 60.0


@dataclass(frozen=True)
class Answered:
    """What a judge answered to one request: a value that was read, or the failure.

    `seconds` are those of the request, 0 where the reply was kept.
    """

    value: Any
    failure: Failure | None
    seconds: float
    attempts: int
    tokens: int


class Requests:
    """Sends texts to a judge and reads the replies.

    Parameters
    ----------
    judge : Judge
    schema : dict
        The format of a reply.
    read : callable
        Makes a value of the text of a reply; `ValueError` where it cannot be read.

    Attributes
    ----------
    scorer : str
        Digest of the model's name and of how it is asked, but for the text. Where it answers is
        not in it, so that a server may move.
    """

    def __init__(
        self, judge: Judge, schema: dict[str, Any], read: Callable[[str], Any], scorer: Any
    ) -> None:
        self._payload = {
            "model": judge.model,
            "temperature": 0,
            "max_tokens": judge.max_tokens,
            "response_format": schema,
        }
        self._read, self._process = read, os.getpid()
        self._at_once = judge.limits.concurrency
        self.scorer = digest_of(self._payload, scorer).hex()
        self._endpoint = Endpoint(judge.url, judge.limits, window=judge.window)
        self._cache = None if judge.cache is None else Cache(judge.cache)

    def answered(self, texts: Sequence[str]) -> list[Answered]:
        """Ask with each text, together, and return the answers in their order.

        Raises
        ------
        GradingError
            If the endpoint refuses all, or the cache fails.
        """
        return each(self._one, texts, self._at_once)

    def resume(self) -> None:
        """Count what the run before may have asked for in its last minute."""
        self._endpoint.spend()

    def close(self) -> None:
        """Close the connections and the cache."""
        if self._process == os.getpid():  # the loop of connections is not taken along by a fork
            awaited([self._endpoint.close()])
        if self._cache is not None:
            self._cache.close()

    async def _one(self, text: str) -> Answered:
        payload = {**self._payload, "messages": [{"role": "user", "content": text}]}
        key = digest_of(self.scorer, payload)
        kept = None if self._cache is None else self._cache.get(key)
        if kept is not None:
            return Answered(self._read(kept), None, 0.0, 0, 0)
        started = time.monotonic()
        reply = await self._endpoint.ask(payload)
        seconds = time.monotonic() - started
        if isinstance(reply, Failure):
            return Answered(None, reply, seconds, reply.attempts, 0)
        return self._taken(reply, key, seconds)

    def _taken(self, reply: Said, key: bytes, seconds: float) -> Answered:
        try:
            value = self._read(reply.text)
        except ValueError as error:
            failure = Failure("parse", str(error), reply.attempts)
            return Answered(None, failure, seconds, reply.attempts, reply.tokens)
        if self._cache is not None:
            self._cache.put({key: reply.text})  # only what can be read is kept
        return Answered(value, None, seconds, reply.attempts, reply.tokens)


def values_of(rows: Slice, row: int) -> dict[str, Any]:
    """Return what the places of a rubric may stand for in a row, but for the completion."""
    values = {name: column[row] for name, column in rows.columns.items()}
    if rows.prompts is not None:
        prompt = rows.prompts[row]
        values["prompt"] = prompt if isinstance(prompt, str) else _conversation(prompt)
    return values


def _conversation(messages: Sequence[Any]) -> str:
    if len(messages) == 1:
        return said(list(messages))
    return "\n\n".join(f"[{one['role']}]\n{said([one])}" for one in messages)
