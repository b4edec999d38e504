"""Batches out of an iterator of rollouts that code of the user's makes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gspo_rs.rollouts.arrays import arrays_of, rollouts_of
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.function import RolloutError
from gspo_rs.train.rollout.tokenize import beyond_limits, check_tokens

__all__ = ["StreamEndedError", "streamed"]

_NEEDED = ("prompt_tokens", "completion_tokens")


class StreamEndedError(RolloutError):
    """An iterator of rollouts ended before the last step of the run."""


def streamed(
    policy: Policy, config: Config, rollouts: Any, *, start: int = 0
) -> Iterator[RolloutBatch]:
    """Take batches out of an iterator.

    Parameters
    ----------
    policy : Policy
        Tells vocabulary, context and world: of several processes the first one's iterator counts.
    config : Config
        Tells what becomes of rollouts beyond the context.
    rollouts : iterator or sequence of Rollouts
        Each a batch, with tokens, rewards and the log-probabilities of the policy that drew it.
    start : int
        Batches to leave out, those of before.

    Yields
    ------
    RolloutBatch
        With `old_logprobs`: those given, else `sampler_logprobs`.

    Raises
    ------
    RolloutError
        If something else comes, or rollouts without tokens or log-probabilities; says which batch.
    StreamEndedError
        At its end.
    """
    given = iter(rollouts)
    for number in range(2**62):
        began = time.perf_counter()
        found = _shared(given, policy, number)
        if number < start:
            continue
        check_tokens(found, len(policy.tokenizer))
        long = beyond_limits(found, {"the model's context": policy.context}, config)
        yield RolloutBatch(found, long, {"time/read": time.perf_counter() - began})


def _shared(given: Iterator[Any], policy: Policy, number: int) -> Rollouts:
    """Return the next batch of the first process on all of them."""
    if policy.world.size == 1:
        return _next(given, number)
    arrays = arrays_of(_next(given, number)) if policy.world.main else {}
    own = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    first = policy.world.gathered(own)[0]
    return rollouts_of({name: value.numpy() for name, value in first.items()})


def _next(given: Iterator[Any], number: int) -> Rollouts:
    """Return the next batch, checked, with old log-probabilities."""
    place = f"batch {number} of the iterator of rollouts"
    try:
        found = next(given)
    except StopIteration as error:
        raise StreamEndedError(
            f"the iterator of rollouts ended after {number} batches, before the last step; a"
            " checkpoint of the last one was written. Lower max_steps, or go on with an iterator"
            " that has more and resume=True"
        ) from error
    if not isinstance(found, Rollouts):
        raise RolloutError(f"{place} is a {type(found).__name__}, not gspo_rs.rollouts.Rollouts")
    for name in _NEEDED:
        if getattr(found, name) is None:
            raise RolloutError(f"{place} has no {name}; give the tokens as they were drawn")
    if not found.n_groups:
        raise RolloutError(f"{place} has no group; leave it out")
    old = found.sampler_logprobs if found.old_logprobs is None else found.old_logprobs
    if old is None:
        raise RolloutError(
            f"{place} has neither sampler_logprobs nor old_logprobs, so the ratio to the policy"
            " that drew it is not known"
        )
    wrong = ~np.isfinite(old.where(found.completion_mask).values)
    if wrong.any():
        raise RolloutError(f"{place} has log-probabilities of sampled tokens that are not finite")
    return replace(found, old_logprobs=old)
