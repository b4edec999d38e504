"""Completions of an endpoint of OpenAI's protocol, which need not be a model of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import KEY, RefusedError
from gspo_rs.samplers.client import Client, answered
from gspo_rs.samplers.rate import Rate
from gspo_rs.samplers.sampled import Sampled

__all__ = ["GIVEN", "Endpoint"]

GIVEN = ("logprobs", "token_ids", "seed")
"""What an endpoint has to give, unless it is asked without."""


class Endpoint:
    """Draws completions of texts or chat messages, each by a request of its own.

    Parameters
    ----------
    url : str
        With or without ``/v1``.
    model : str, optional
        Its name there; the first that the endpoint has by default.
    sampling : mapping
        ``max_tokens``, ``temperature``, ``top_p``, ``top_k`` and ``stop``.
    without : sequence of str
        Of `GIVEN`, what is not asked for.
    rpm : int, optional
        Requests a minute, in every minute.
    concurrency : int
        Requests at once.
    timeout : float
        Seconds for an answer.
    window : float
        Seconds that `rpm` is counted in.
    spent : bool
        Whether a process before may have taken all of a window just now.
    """

    def __init__(
        self,
        url: str,
        *,
        sampling: Mapping[str, Any],
        model: str | None = None,
        without: Sequence[str] = (),
        rpm: int | None = None,
        concurrency: int = 64,
        timeout: float = 600.0,
        window: float = 60.0,
        spent: bool = False,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"endpoint {url!r} is no address; it begins with http:// or https://")
        if unknown := [name for name in without if name not in GIVEN]:
            raise ValueError(f"without {unknown[0]!r}: must be one of {', '.join(GIVEN)}")
        rate = None if rpm is None else Rate(rpm, window)
        if rate is not None and spent:
            rate.spend()
        self._client = Client(
            url.rstrip("/").removesuffix("/v1"),
            timeout=timeout,
            connections=concurrency,
            key=os.environ.get(KEY),
            rate=rate,
        )
        self.concurrency, self._without = concurrency, frozenset(without)
        self._sampling = dict(sampling)
        self.model = model or self._first()

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that goes on must have the same."""
        return {"endpoint_model": self.model, "without": sorted(self._without)}

    def _first(self) -> str:
        try:
            return str(self._client.get("/v1/models")["data"][0]["id"])
        except (SamplerError, LookupError, TypeError) as error:
            raise SamplerError(
                f"{self._client.url} does not say which models it has ({error}); name one, with"
                " --model NAME"
            ) from error

    def version(self) -> str | None:
        """Return the version of the weights, where the endpoint tells it, as vLLM does."""
        try:
            return str(self._client.get("/weight_info")["weight_version"])
        except (RefusedError, LookupError, TypeError):
            return None

    def check_seed(self, seed: int, *, chat: bool) -> None:
        """Check that a seed draws the same twice, of a text or of chat messages.

        Raises
        ------
        SamplerError
            With the remedy.
        """
        if "seed" in self._without:
            return
        prompt = [{"role": "user", "content": _PROBE}] if chat else _PROBE
        one, other = (self.read(self.begin(prompt, seed), seed) for _ in range(2))
        if one.completion != other.completion:
            raise SamplerError(
                f"{self._client.url} ignores seeds: one drew {one.completion[:40]!r} and"
                f" {other.completion[:40]!r}, so no run could be repeated; go on without, by"
                " --without seed"
            )

    def begin(self, prompt: Any, seed: int) -> Future[Any]:
        """Begin one completion of a text, or of a list of chat messages."""
        chat = not isinstance(prompt, str)
        body: dict[str, Any] = {"model": self.model, "n": 1, **self._sampling}
        body |= {"messages": prompt} if chat else {"prompt": prompt}
        if "seed" not in self._without:
            body["seed"] = seed
        if "logprobs" not in self._without:
            body["logprobs"] = True if chat else 1
        if "token_ids" not in self._without:
            body["return_token_ids"] = True
        return self._client.begin("POST", "/v1/chat/completions" if chat else _PATH, body)

    def read(self, call: Future[Any], seed: int) -> Sampled:
        """Return what was drawn.

        Raises
        ------
        SamplerError
            If the answer is no completion, or lacks what it has to give; names it, and the remedy.
        RefusedError, UnansweredError
            As `Client.begin`.
        """
        answer = answered(call)
        try:
            (choice,) = answer["choices"]
            said = choice["text"] if "text" in choice else choice["message"]["content"]
            reason = choice["finish_reason"]
        except (LookupError, TypeError, ValueError) as error:
            raise SamplerError(
                f"{self._client.url} answered no completion: {str(answer)[:200]}"
            ) from error
        logprobs = self._needed("logprobs", _logprobs(choice.get("logprobs")))
        tokens = self._needed("token_ids", choice.get("token_ids"))
        if tokens is not None and logprobs is not None and len(tokens) != len(logprobs):
            raise SamplerError(
                f"{self._client.url} answered {len(logprobs)} log-probabilities of {len(tokens)}"
                " tokens; go on without, by --without logprobs"
            )
        before = choice.get("prompt_token_ids", answer.get("prompt_token_ids"))
        return Sampled(
            said or "", str(reason), seed, before, tokens, logprobs, _usage(answer.get("usage"))
        )

    def _needed(self, name: str, value: Any) -> Any:
        if name in self._without:
            return None
        if value is None:
            raise SamplerError(
                f"{self._client.url} answers no {name}, which training needs; start a server that"
                f" does, such as vLLM, or go on without, by --without {name}"
            )
        return value

    def take_counts(self) -> dict[str, int]:
        """Return how many calls were repeated since this was last asked."""
        return self._client.take_counts()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


_PATH = "/v1/completions"
_PROBE = "Hello"


def _usage(found: Any) -> tuple[int, int] | None:
    """Return the tokens of the prompt and of the completion that an endpoint charges for."""
    if not isinstance(found, dict):
        return None
    return int(found.get("prompt_tokens") or 0), int(found.get("completion_tokens") or 0)


def _logprobs(found: Any) -> list[float] | None:
    """Return the log-probabilities of tokens, of a completion or of a chat completion."""
    if not found:
        return None
    if "token_logprobs" in found:
        return list(found["token_logprobs"])
    return [one["logprob"] for one in found.get("content") or ()]
