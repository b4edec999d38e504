"""Scores from a reward model behind a vLLM server that pools."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gspo_rs.rewards.awaited import awaited, each
from gspo_rs.rewards.errors import GradingError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.model import WHAT, ids_of, refuse_labels, scored, unread
from gspo_rs.rewards.judges.endpoint import Limits
from gspo_rs.rewards.model_folder import (
    configuration,
    digest_of_folder,
    loaded_tokenizer,
    longest_of,
)
from gspo_rs.rewards.worker import ERROR_CHARACTERS
from gspo_rs.rewards.workers import Grade, Status
from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import KEY, TOO_MANY, Calls, RefusedError, UnansweredError

__all__ = ["ServedModelEngine"]

_TRIED = [1, 2, 3]  # ids that every vocabulary has


class ServedModelEngine:
    """Grades by the only logit of a sequence classifier that a vLLM server runs.

    Parameters
    ----------
    url : str
        Of the server, started with ``--runner pooling``, such as ``http://localhost:8000``.
    folder : path
        With the model that it runs: rows become tokens by its tokenizer here, as by `ModelEngine`.
    limits : Limits
        How many requests at once, how long, how often again.
    name : str
        Of the reward.

    Raises
    ------
    RewardError
        If it is no folder with such a model.
    GradingError
        If the server does not answer, runs several models, or gives probabilities and not logits.

    Notes
    -----
    By itself vLLM puts a logit through a sigmoid, in which good completions are all near to 1.
    Each request asks for the logit, and a server that does not heed that is found at the start, by
    a text that is scored with and without. The server's version is part of the scorer.
    """

    kind, whole_groups = "model", False

    def __init__(
        self, url: str, folder: str | Path, limits: Limits | None = None, *, name: str = "model"
    ) -> None:
        self.name, place, limits = name, Path(folder), limits or Limits()
        self._tokenizer = loaded_tokenizer(place, WHAT)
        config = configuration(place, WHAT)
        refuse_labels(place, config)
        self._process = os.getpid()
        self._calls = Calls(
            url.rstrip("/").removesuffix("/v1"),
            timeout=limits.timeout,
            connections=limits.concurrency,
            key=os.environ.get(KEY),
            attempts=limits.retries + 1,
        )
        self._at_once = limits.concurrency
        ((self._model, longest, version),) = each(self._checked, [_TRIED], 1)
        self._longest = min(longest_of(config), longest)
        self.scorer = digest_of_folder(place, "vllm", version)

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        ids = [ids_of(self._tokenizer, rows, row) for row in range(len(rows.completions))]
        grades = unread(ids, self._longest)
        left = [row for row in range(len(ids)) if row not in grades]
        found = each(self._one, [ids[row] for row in left], self._at_once)
        grades |= zip(left, found, strict=True)
        return [grades[row] for row in range(len(ids))]

    def close(self) -> None:
        """Close the connections."""
        if self._process == os.getpid():  # the loop of connections is not taken along by a fork
            awaited([self._calls.close()])

    async def _checked(self, ids: Sequence[int]) -> tuple[str, int, str]:
        """Return the name and the length of the model and the version, of a server that will do."""
        ask = self._calls.ask
        try:
            models = (await ask("GET", "/v1/models", read=lambda found: found["data"])).value
            version = (await ask("GET", "/version", read=lambda found: found["version"])).value
            name = models[0]["id"]
            raw = (await self._score(name, ids)).value
            squashed = (await self._score(name, ids, activation=True)).value
        except SamplerError as error:
            raise GradingError(
                f"{error}; the server of a reward model is vLLM with --runner pooling"
            ) from error
        if len(models) > 1:
            raise GradingError(f"{self._calls.url} has {len(models)} models; it has to have one")
        if raw == squashed:
            raise GradingError(
                f"{self._calls.url} gives {raw:g} whether its activation is asked for or not: it"
                " does not know use_activation, and its scores may be probabilities; take a newer"
                " vLLM"
            )
        return name, int(models[0].get("max_model_len") or 1 << 30), str(version)

    async def _score(self, name: str, ids: Sequence[int], *, activation: bool = False) -> Any:
        body = {"model": name, "input": list(ids), "use_activation": activation}
        return await self._calls.ask("POST", "/classify", body, read=_read)

    async def _one(self, ids: Sequence[int]) -> Grade:
        started = time.monotonic()
        try:
            answer = await self._score(self._model, ids)
        except (RefusedError, UnansweredError) as error:
            if isinstance(error, RefusedError) and error.of_all:
                raise GradingError(f"{error}; check the address, and the key in {KEY}") from error
            status: Status = "rate" if error.status == TOO_MANY else "error"
            said = " ".join(error.said.split())[:ERROR_CHARACTERS]
            more: dict[str, Any] = {"attempts": error.attempts}
            return Grade(status, error=said, seconds=time.monotonic() - started, **more)
        return scored(answer.value, time.monotonic() - started, answer.attempts)


def _read(answer: Any) -> float:
    (found,) = answer["data"]
    (score,) = found["probs"]
    return float(score)
