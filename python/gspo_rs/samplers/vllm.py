"""A vLLM server as the engine of a run: tokens over HTTP, weights by a folder or by NCCL."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed, wait
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import SAMPLER_METRICS, Policy, SamplerError
from gspo_rs.samplers.calls import HOPELESS, PATIENCE, RefusedError, UnansweredError
from gspo_rs.samplers.client import Client, answered
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.encoded import encoded, numbered
from gspo_rs.samplers.generation import context_of
from gspo_rs.samplers.merged import adapter_rank, checkpoint_weights, save_merged
from gspo_rs.samplers.probe import check_served, compared, served
from gspo_rs.samplers.special_tokens import end_tokens
from gspo_rs.samplers.stop_strings import as_strings
from gspo_rs.samplers.token_server import How, TokenServer
from gspo_rs.samplers.weight_stream import WeightStream

__all__ = ["Vllm"]

CONNECTIONS = 128
"""Completions that are asked for at once; the server queues what it cannot batch."""
_log = logging.getLogger("gspo_rs")


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
    by : {"folder", "nccl"}
        How weights are passed: by NCCL from GPU to GPU, adapters merged, or by that folder.
    name : str
        Of the run: what it has left behind in the folder is its own to remove.
    exact : bool
        Whether log-probabilities that differ from the policy's are an error, or logged.
    versions : int
        Of adapters that the server keeps at once: what it draws with at one time.

    Attributes
    ----------
    concurrent : bool
        True: completions under way go on with new weights, and say which token is of which.

    Notes
    -----
    Each completion is asked for alone, with a seed of its own: a server gives the completions of
    one call the same noise. The server keeps the keys and values of a prompt for its group.

    Adapters of LoRA go alone, each version under a name of its own, to a server that takes them, so
    that a completion is of one version; for others they are merged into a copy of their base.

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
        by: Literal["folder", "nccl"] = "folder",
        name: str = "",
        exact: bool = True,
        versions: int = 2,
    ) -> None:
        self._client = Client(url, timeout=timeout, connections=CONNECTIONS, direct=True)
        self._server = TokenServer(self._client, *served(self._client))
        self._folder, self._by, self._name = folder, by, name
        self._timeout = timeout
        self._once: Client | None = None
        self._stream: WeightStream | None = None
        self._exact, self._checked = exact, False
        self._version: int | None = None
        self._label, self._versions, self._alone = "", versions, True
        self._kept: deque[Path] = deque()  # folders that the server may yet read
        self._process = token_hex(4)

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
        server, tokenizer, strings = self._server, policy.tokenizer, as_strings(stop)
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
        drawn = self._draw(server, jobs, how, progress)
        groups: list[list[Drawn]] = [[] for _ in asked.rows]
        for (place, _, _), one in zip(jobs, drawn, strict=True):
            if one is not None:
                groups[place].append(one)
        return asked.rollouts(tokenizer, groups)

    def _draw(
        self,
        server: TokenServer,
        jobs: list[tuple[int, list[int], int]],
        how: How,
        progress: Callable[[int, int], object] | None,
    ) -> list[Drawn | None]:
        """Ask for each completion; None for one that was not answered."""
        found: list[Drawn | None] = [None] * len(jobs)
        failed: list[UnansweredError] = []
        calls = {server.begin(tokens, seed, how): row for row, (_, tokens, seed) in enumerate(jobs)}
        try:
            for done, call in enumerate(as_completed(calls), 1):
                try:
                    found[calls[call]] = server.drawn(call, how)
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
        self._label = self._named(version)
        if version != self._version:
            weights = policy.weights()
            if policy.world.main:
                self._push(policy, weights, version)
            policy.world.barrier()
            self._follow(version)
        self._check_version(version)
        if version != self._version:
            compared(self._server, policy, version, exact=self._exact, seeds=not self._checked)
        self._checked, self._version = True, version

    def _push(self, policy: Policy, weights: Any, version: int) -> None:
        """Let the server have the weights, and keep no more versions of them than it draws with."""
        if self._by == "nccl":
            self._send(policy, weights)
        else:
            self._write(policy, weights, version)

    def _send(self, policy: Policy, weights: Any) -> None:
        """Send the weights from GPU to GPU."""
        if self._stream is None:
            how: dict[str, Any] = {"timeout": self._timeout, "direct": True, "attempts": 1}
            self._once = Client(self._client.url, connections=2, **how)
            self._stream = WeightStream(self._once, policy.model.device)
        found = checkpoint_weights(policy, weights)
        with self._server.paused():
            self._stream.send(found, self._label)

    def _write(self, policy: Policy, weights: Any, version: int) -> None:
        """Write the weights, adapters alone if that does, and let the server read them."""
        # A server knows what it has read by name and folder: those of a run before are others.
        folder = self._path() / self._process / str(version)
        rank = adapter_rank(policy.model)
        if not self._kept:
            self._forget_before()
        self._kept.append(folder)
        self._alone = self._alone and rank is not None
        if self._alone:
            policy.save(folder, weights)
            self._alone = self._server.load_adapters(folder, self._label, rank)
        if not self._alone:
            shutil.rmtree(folder, ignore_errors=True)  # a server reads all that is there
            save_merged(policy, folder, weights)
            self._server.load(folder, self._label)
        while len(self._kept) > (self._versions if self._alone else 1):
            old = self._kept.popleft()
            if self._alone:
                self._server.unload_adapters(self._named(int(old.name)))
            shutil.rmtree(old, ignore_errors=True)

    def _forget_before(self) -> None:
        """Remove what a run before of the same name has left, here and on the server."""
        shutil.rmtree(self._path(), ignore_errors=True)
        for name in self._server.names():
            if name.startswith(self._named("")):
                self._server.unload_adapters(name)

    def _unload(self, names: Sequence[str]) -> None:
        """Let the server forget adapters, unless it takes long: it may be gone."""
        calls = {self._server.begin_unload(name): name for name in names}
        wait(calls, timeout=PATIENCE)
        for call, name in calls.items():
            try:
                if not call.done():
                    _log.warning(
                        "%s was not heard to forget the adapters %s", self._client.url, name
                    )
                else:
                    answered(call)
            except RefusedError:
                pass  # it has none of that name
            except UnansweredError as error:
                _log.warning("adapters %s stay on the server: %s", name, error)

    def _follow(self, version: int) -> None:
        """Ask for the adapters of a version from now on, if the server has been given any."""
        if self._label in self._server.names():
            self._server = self._server._replace(model=self._label, version=version)

    def _path(self) -> Path:
        """Return the folder of this run, the same in all its processes."""
        base = self._folder
        if base is None:
            base = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()  # noqa: S108
        name = blake2b(self._name.encode(), digest_size=8).hexdigest()
        return Path(base) / f"gspo-rs-weights-{name}"

    def _named(self, version: int | str) -> str:
        """Return the name of a version of the weights of this run."""
        words = str(self._path()).encode()
        return f"{blake2b(words, digest_size=4).hexdigest()}-{version}"

    def _check_version(self, version: int) -> None:
        if self._server.version is None:
            found = repr(self._server.label())
        else:
            found = ", ".join(map(repr, self._server.names()))
        if repr(self._label) not in found.split(", "):
            raise SamplerError(
                f"{self._client.url} has the weights {found}, and was given those of step"
                f" {version}, {self._label!r}: it was started anew, or another run gives it weights"
                " too; go on from the last checkpoint with --resume, with a server for this run"
            )

    def take_metrics(self) -> dict[str, list[float]]:
        """Return how many completions have failed, and calls were repeated, since last asked."""
        counts = self._client.take_counts()
        names = ("failed", "retries")
        return {f"{SAMPLER_METRICS}{name}": [float(counts.get(name, 0))] for name in names}

    def close(self) -> None:
        """Close the connections, and remove the weights that were passed, from the server too."""
        if self._stream is not None:
            self._stream.close()
        if self._once is not None:
            self._once.close()
        if self._alone:
            self._unload([self._named(int(folder.name)) for folder in self._kept])
        self._client.close()
        if self._kept:
            shutil.rmtree(self._path(), ignore_errors=True)
            self._kept.clear()


def _seed(seed: int, number: int, generation: int) -> int:
    """Return the seed of one completion, of 63 bits."""
    words = f"{seed} {number} {generation}".encode()
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "big") >> 1
