"""What is asked of a vLLM server: completions of tokens, and weights out of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gspo_rs.samplers import SamplerError
from gspo_rs.samplers.calls import RefusedError
from gspo_rs.samplers.client import Client, answered
from gspo_rs.samplers.completions import Drawn

__all__ = ["STARTED", "How", "TokenServer"]

STARTED = (
    "VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model DIR"
    " --enable-scale-out --logprobs-mode processed_logprobs"
)
"""How a server is started that does what training needs."""
_DEV = "VLLM_SERVER_DEV_MODE=1"
_GENERATE = "/inference/v1/generate"
_MISSING = (404, 405)


class How(NamedTuple):
    """How completions are drawn: their most tokens, the temperature, what ends and limits them."""

    max_tokens: int
    temperature: float
    ends: Sequence[int] = ()
    stop: Sequence[str] = ()
    top_p: float = 1.0
    top_k: int = 0


class TokenServer(NamedTuple):
    """A vLLM server.

    Attributes
    ----------
    client : Client
        Asks it.
    model : str
        The name under which it serves the model.
    context : int or None
        Most tokens of a sequence.
    version : int or None
        Of the adapters that `model` names; None where the server tells versions of weights.
    """

    client: Client
    model: str
    context: int | None
    version: int | None = None

    def complete(self, tokens: list[int], seed: int, how: How) -> Drawn:
        """Return one completion of a prompt; see `begin`."""
        return self.drawn(self.begin(tokens, seed, how), how)

    def begin(self, tokens: list[int], seed: int, how: How) -> Future[Any]:
        """Begin one completion of a prompt, which `drawn` reads."""
        # All that a model's generation_config.json may set otherwise is said.
        sampling = {
            "n": 1,
            "seed": seed,
            "max_tokens": how.max_tokens,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(how.ends),
            "ignore_eos": not how.ends,
            "stop": list(how.stop),
            "logprobs": 0,
        }
        body = {"model": self.model, "token_ids": tokens, "sampling_params": sampling}
        return self.client.begin("POST", _GENERATE, body)

    def drawn(self, call: Future[Any], how: How) -> Drawn:
        """Return the completion of a call.

        Raises
        ------
        SamplerError
            If the answer lacks tokens or log-probabilities; with the remedy.
        RefusedError, UnansweredError
            As `Client.begin` says.
        """
        place = f"{self.client.url}{_GENERATE}"
        try:
            (choice,) = _served(call, "--enable-scale-out")["choices"]
            tokens, reason = choice["token_ids"], choice["finish_reason"]
        except (KeyError, TypeError, ValueError) as error:
            raise SamplerError(
                f"{place} answered no completion with token_ids; start it as {STARTED}"
            ) from error
        said = (choice.get("logprobs") or {}).get("content")
        if tokens is None or said is None or len(said) != len(tokens):
            what = "token_ids" if tokens is None else "a log-probability for each token"
            raise SamplerError(f"{place} answered without {what}; start it as {STARTED}")
        ended = bool(tokens) and tokens[-1] in how.ends and reason == "stop"
        return Drawn(
            np.array(tokens, dtype=np.int64),
            np.array([one["logprob"] for one in said], dtype=np.float32),
            ended,
            reason == "stop" and not ended,
            self._versions(choice.get("weight_versions"), len(tokens)),
        )

    def _versions(self, spans: Any, n: int) -> Any:
        """Return the version of each token; None where not told."""
        if self.version is not None:
            return np.full(n, self.version, dtype=np.int64)
        return _versions(spans, n)

    def load(self, folder: Path, label: str) -> None:
        """Let the server read its weights from a folder, and name their version.

        What it draws at this moment waits, and goes on with the new ones.
        """
        kwargs = {"weights_path": str(folder)}
        with self.paused():
            self._asked("/collective_rpc", {"method": "reload_weights", "kwargs": kwargs}, _DEV)
            self._asked("/update_weight_version", {"new_version": label}, _DEV)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hold what the server draws; afterwards it goes on with the weights that it has then."""
        self._asked("/pause?mode=keep&clear_cache=true", None, _DEV)
        try:
            yield
        finally:
            self._asked("/resume", None, _DEV)

    def load_adapters(self, folder: Path, name: str, rank: int | None) -> bool:
        """Let the server read adapters from a folder, under a name of their own.

        What it draws at this moment goes on with those that it has begun with.

        Returns
        -------
        bool
            False if the server takes no adapters.

        Raises
        ------
        SamplerError
            If it does, and not these.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        try:
            answered(self.client.begin("POST", "/v1/load_lora_adapter", body, text=True))
        except SamplerError as error:
            if isinstance(error, RefusedError) and error.status in _MISSING:
                return False
            raise SamplerError(
                f"{error}; start it with --enable-lora --max-lora-rank {rank}, or without"
                " VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and adapters are merged for it"
            ) from error
        return True

    def unload_adapters(self, name: str) -> None:
        """Let the server forget adapters."""
        answered(self.begin_unload(name))

    def begin_unload(self, name: str) -> Future[Any]:
        """Begin to let the server forget adapters."""
        body = {"lora_name": name}
        return self.client.begin("POST", "/v1/unload_lora_adapter", body, text=True)

    def names(self) -> list[str]:
        """Return the names under which it serves models: its own, and those of adapters."""
        return [str(one["id"]) for one in self.client.get("/v1/models")["data"]]

    def label(self) -> str:
        """Return the name of the version of its weights."""
        answer = _served(self.client.begin("GET", "/weight_info"), _DEV)
        return str(answer["weight_version"])

    def tokenised(self, text: str) -> list[int]:
        """Return the tokens that it makes of a text, without special ones."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        tokens: list[int] = self.client.post("/tokenize", body)["tokens"]
        return tokens

    def _asked(self, path: str, body: Any, needed: str) -> Any:
        return _served(self.client.begin("POST", path, body), needed)


def _served(call: Future[Any], needed: str) -> Any:
    """Return an answer, or name the option that a server needs to know the address."""
    try:
        return answered(call)
    except RefusedError as error:
        if error.status not in _MISSING:
            raise
        raise SamplerError(f"{error}; start it with {needed}, as {STARTED}") from error


def _versions(spans: Any, n: int) -> Any:
    """Return the version of each token of spans of labels, ``name-step``; None where not told."""
    if not spans:
        return None
    versions = np.full(n, -1, dtype=np.int64)
    for span in spans:
        step = str(span["version"]).rpartition("-")[2]
        versions[span["start"] : span["end"]] = int(step) if step.isdigit() else -1
    return versions
