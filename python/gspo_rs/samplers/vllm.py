"""A vLLM server as the engine of a run, over HTTP: tokens there and back, weights by a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from hashlib import blake2b
from pathlib import Path
from typing import Any

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import SAMPLER_METRICS, Policy, SamplerError
from gspo_rs.samplers.calls import HOPELESS, UnansweredError
from gspo_rs.samplers.client import Client
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.encoded import encoded, numbered
from gspo_rs.samplers.generation import context_of
from gspo_rs.samplers.merged import save_merged
from gspo_rs.samplers.probe import check_served, compared, served
from gspo_rs.samplers.special_tokens import end_tokens
from gspo_rs.samplers.stop_strings import as_strings
from gspo_rs.samplers.token_server import How, TokenServer

__all__ = ["Vllm"]

CONNECTIONS = 128
"""Completions that are asked for at once; the server queues what it cannot batch."""


class Vllm:
    """Draws completions with a vLLM server, which gets the weights of the policy.

    Parameters
    ----------
    url : str
        Of the server.
    timeout : float
        Seconds for one answer.
    folder : str or Path, optional
        Where weights are passed, which the server sees under the same name; by default in shared
        memory, or the system's temporary folder.
    name : str
        Of the run: what it has left behind in the folder is its own to remove.
    exact : bool
        Whether log-probabilities that differ from the policy's are an error, or logged.

    Attributes
    ----------
    concurrent : bool
        True: completions under way go on with new weights, and say which token is of which.

    Notes
    -----
    Each completion is asked for alone, with a seed of its own: a server gives the completions of
    one call the same noise. The server keeps the keys and values of a prompt for its group.

    Nothing of vLLM is imported. What it needs to be started with is said where it is missing:
    ``VLLM_SERVER_DEV_MODE=1``, ``--enable-scale-out``, ``--logprobs-mode processed_logprobs``.
    """

    concurrent = True

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        folder: str | Path | None = None,
        name: str = "",
        exact: bool = True,
    ) -> None:
        self._client = Client(url, timeout=timeout, connections=CONNECTIONS, direct=True)
        self._server = TokenServer(self._client, *served(self._client))
        self._folder, self._name = folder, name
        self._exact, self._checked = exact, False
        self._version: int | None = None
        self._label = ""
        self._kept: Path | None = None

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        *,
        num_generations: int,
        max_completion_length: int,
        max_prompt_length: int | None = None,
        on_long_prompt: str = "error",
        add_special_tokens: bool = True,
        prompt_numbers: Sequence[int] | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int,
        progress: Callable[[int, int], object] | None = None,
        generation_batch: int | None = None,  # noqa: ARG002 -- the server has its own
        **cuts: Any,
    ) -> Rollouts:
        """Draw completions; see `gspo_rs.samplers.transformers.generate` for the options.

        Returns
        -------
        Rollouts
            With `policy_versions`, as the server tells them. A completion that was not answered
            is left out of its group and counted, and a prompt without any is left out.

        Raises
        ------
        SamplerError
            If the server refuses a request, or answers none.
        """
        tokenizer, strings = policy.tokenizer, as_strings(stop)
        limit = self._limit(policy, max_prompt_length, max_completion_length)
        asked = encoded(tokenizer, prompts, limit, on_long_prompt, special=add_special_tokens)
        numbers = numbered(prompt_numbers, len(prompts))
        ends = end_tokens(policy.model, tokenizer, strings)
        how = How(max_completion_length, ends=ends, stop=strings, **cuts)
        jobs = [
            (place, tokens, _seed(seed, numbers[row], generation))
            for place, (row, tokens) in enumerate(zip(asked.rows, asked.tokens, strict=True))
            for generation in range(num_generations)
        ]
        drawn = self._draw(jobs, how, progress)
        groups: list[list[Drawn]] = [[] for _ in asked.rows]
        for (place, _, _), one in zip(jobs, drawn, strict=True):
            if one is not None:
                groups[place].append(one)
        return asked.rollouts(tokenizer, groups)

    def _draw(
        self,
        jobs: list[tuple[int, list[int], int]],
        how: How,
        progress: Callable[[int, int], object] | None,
    ) -> list[Drawn | None]:
        """Ask for each completion; None for one that was not answered."""
        found: list[Drawn | None] = [None] * len(jobs)
        failed: list[UnansweredError] = []
        calls = {
            self._server.begin(tokens, seed, how): row for row, (_, tokens, seed) in enumerate(jobs)
        }
        try:
            for done, call in enumerate(as_completed(calls), 1):
                try:
                    found[calls[call]] = self._server.drawn(call, how)
                except UnansweredError as error:
                    failed.append(error)
                    if done == len(failed) >= min(HOPELESS, len(jobs)):
                        raise
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            for call in calls:
                call.cancel()
        self._client.count("failed", len(failed))
        return found

    def _limit(self, policy: Policy, prompt: int | None, completion: int) -> int | None:
        """Return the most tokens of a prompt, of the policy's context and the server's."""
        contexts = [context_of(policy.model), self._server.context]
        room = [context - completion for context in contexts if context is not None]
        return min([*room, *([] if prompt is None else [prompt])], default=None)

    def refresh(self, policy: Policy, version: int) -> None:
        """Give the server the weights of the policy, and prove that it draws with them.

        Raises
        ------
        SamplerError
            If it serves another model or tokenizer, does not do what training needs, or has other
            weights or another version afterwards; with the remedy.
        """
        if not self._checked:
            check_served(self._server, policy)
        if version != self._version:
            weights = policy.weights()
            if policy.world.main:
                self._push(policy, weights, version)
            policy.world.barrier()
        self._check_version(version, mine=policy.world.main)
        if version != self._version:
            compared(self._server, policy, version, exact=self._exact, seeds=not self._checked)
        self._checked, self._version = True, version

    def _push(self, policy: Policy, weights: Any, version: int) -> None:
        """Write the weights and let the server read them."""
        folder = self._home() / str(version)
        save_merged(policy, folder, weights)
        label = f"{blake2b(str(folder).encode(), digest_size=4).hexdigest()}-{version}"
        self._server.load(folder, label)
        self._label = label
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)
        self._kept = folder

    def _home(self) -> Path:
        """Return the folder of this run, empty where it is new to it."""
        base = self._folder
        if base is None:
            base = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()  # noqa: S108
        name = blake2b(self._name.encode(), digest_size=8).hexdigest()
        home = Path(base) / f"gspo-rs-weights-{name}"
        if self._kept is None:
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _check_version(self, version: int, *, mine: bool) -> None:
        found = self._server.label()
        ours = found == self._label if mine else found.rpartition("-")[2] == str(version)
        if not ours:
            raise SamplerError(
                f"{self._client.url} has the weights {found!r}, and was given those of step"
                f" {version}, {self._label!r}: it was started anew, or another run gives it weights"
                " too; go on from the last checkpoint with --resume, with a server for this run"
            )

    def take_metrics(self) -> dict[str, list[float]]:
        """Return how many completions have failed, and calls were repeated, since last asked."""
        counts = self._client.take_counts()
        names = ("failed", "retries")
        return {f"{SAMPLER_METRICS}{name}": [float(counts.get(name, 0))] for name in names}

    def close(self) -> None:
        """Close the connections, and remove the weights that were passed."""
        self._client.close()
        if self._kept is not None:
            shutil.rmtree(self._kept.parent, ignore_errors=True)
            self._kept = None


def _seed(seed: int, number: int, generation: int) -> int:
    """Return the seed of one completion, of 63 bits."""
    words = f"{seed} {number} {generation}".encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "big") >> 1
