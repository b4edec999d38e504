"""Continuous batching of transformers: a completion that ends makes room for the next at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Policy, SamplerError
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.encoded import encoded
from gspo_rs.samplers.generation import context_of
from gspo_rs.samplers.special_tokens import end_tokens

__all__ = ["Continuous"]

_PAGE = 32  # tokens
_TOKENS = 512  # of one pass


class Continuous:
    """Draws with `generate_batch` of transformers, in the process that trains.

    Notes
    -----
    Keys and values are in pages, and a row that has ended makes room for another, where
    `gspo_rs.samplers.transformers` lets rows leave a batch. The noise is that of the whole batch,
    so a completion depends on those beside it, and on when it found room. Log-probabilities are of
    the scores that were drawn from, so nothing may cut the vocabulary; it knows no stop strings.
    """

    def generate(
        self,
        policy: Policy,
        prompts: Sequence[Any],
        *,
        num_generations: int,
        max_completion_length: int,
        temperature: float,
        seed: int,
        max_prompt_length: int | None = None,
        on_long_prompt: str = "error",
        add_special_tokens: bool = True,
        stop: str | Sequence[str] | None = None,
        progress: Callable[[int, int], object] | None = None,
        **_: Any,
    ) -> Rollouts:
        """Draw completions; see `gspo_rs.samplers.transformers.generate` for the options.

        Raises
        ------
        SamplerError
            If stop strings are asked for, or transformers does not finish what it has begun.
        """
        if stop:
            raise SamplerError(
                f"stop = {stop!r}: continuous batching knows no stop strings; use sampler ="
                " 'transformers', or a server"
            )
        context = context_of(policy.model)
        limits = [] if context is None else [context - max_completion_length]
        limits += [] if max_prompt_length is None else [max_prompt_length]
        asked = encoded(
            policy.tokenizer,
            prompts,
            min(limits, default=None),
            on_long_prompt,
            special=add_special_tokens,
        )
        rows = [tokens for tokens in asked.tokens for _ in range(num_generations)]
        ends = end_tokens(policy.model, policy.tokenizer, [])
        how = {"max_new_tokens": max_completion_length, "temperature": temperature}

        def sample(model: Any) -> list[Drawn]:
            with _noise_alone(model.device):
                return _drawn(model, rows, ends, seed, how)

        drawn: list[Drawn] = policy.sampling(sample) if rows else []
        if progress is not None:
            progress(len(rows), len(rows))
        starts = range(0, len(rows), num_generations)
        return asked.rollouts(policy.tokenizer, [drawn[at : at + num_generations] for at in starts])

    def refresh(self, policy: Policy, version: int) -> None:  # noqa: ARG002 -- weights are in place
        """Check that it is alone.

        Raises
        ------
        SamplerError
            If several processes train.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            raise SamplerError(
                "sampler = 'transformers-continuous' samples in one process; use sampler ="
                " 'transformers', or a server"
            )

    def close(self) -> None:
        """Do nothing: it holds nothing."""


@contextmanager
def _noise_alone(device: torch.device) -> Iterator[None]:
    """Give the global generators their states back: the thread of transformers seeds them."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _drawn(
    model: Any, rows: list[list[int]], ends: Sequence[int], seed: int, how: dict[str, Any]
) -> list[Drawn]:
    """Draw one completion of each row."""
    from transformers.generation import configuration_utils

    settings: Any = configuration_utils
    # -1 is no token; None is warned of.
    drawing = settings.GenerationConfig(
        do_sample=True, top_p=1.0, top_k=0, eos_token_id=list(ends) or -1, **how
    )
    batching = settings.ContinuousBatchingConfig(
        return_logprobs=True, seed=seed % 2**31, **_room(model, rows, how["max_new_tokens"])
    )
    found = model.generate_batch(
        rows, generation_config=drawing, continuous_batching_config=batching
    )
    ended = list(found.values())
    if len(ended) < len(rows) or any(one.error is not None for one in ended):
        said = next((one.error for one in ended if one.error is not None), "see its log")
        raise SamplerError(
            f"continuous batching of transformers finished {len(ended)} of {len(rows)}"
            f" completions: {said}; use sampler = 'transformers'"
        )
    return [
        Drawn(
            np.array(one.generated_tokens, dtype=np.int64),
            np.array(one.logprobs, dtype=np.float32),
            bool(one.generated_tokens) and one.generated_tokens[-1] in ends,
            stopped=False,
        )
        for one in ended
    ]


def _room(model: Any, rows: list[list[int]], most: int) -> dict[str, int]:
    """Return what is to be held at once: on a GPU what it has free, else what the rows need.

    There transformers would take six tenths of the memory that is free.
    """
    if model.device.type == "cuda":
        return {}
    pages = sum(-(-(len(row) + most) // _PAGE) + 1 for row in rows)
    return {"page_size": _PAGE, "num_blocks": pages, "max_batch_tokens": _TOKENS}
