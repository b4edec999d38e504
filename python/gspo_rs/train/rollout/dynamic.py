"""Dynamic sampling: batches of groups with a signal, from as many rounds as it takes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from gspo_rs.rollouts.rollouts import Ragged, Rollouts, joined
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import sampler_is_old
from gspo_rs.train.rollout.reward_log import pooled
from gspo_rs.train.rollout.tokenize import beyond_limits
from gspo_rs.train.step.group_metrics import mean_of_known
from gspo_rs.train.step.minibatch import standing_of
from gspo_rs.train.step.training_batch import TrainingBatch, recompute

__all__ = ["filled", "with_signal"]

_log = logging.getLogger("gspo_rs")


def filled(
    rounds: Iterator[RolloutBatch], policy: Policy, config: Config, *, over: Rollouts | None
) -> Iterator[RolloutBatch]:
    """Fill batches with the groups of several rounds whose rewards differ.

    Parameters
    ----------
    rounds : iterator of RolloutBatch
        Endless; each of the prompts of a batch.
    policy : Policy
        With the weights that sampled, when a batch is asked for.
    config : Config
        Resolved; tells the size of a batch, and after how many rounds it is taken as it is.
    over : Rollouts or None
        Groups of before, for the first batch.

    Yields
    ------
    RolloutBatch
        Of ``prompts_per_step * steps_per_generation`` groups with a signal in the rewards as they
        are, without a penalty, in the order in which they were sampled; of fewer after
        `max_resample` further rounds, and where none has a signal of the last round. What is over
        has its `old_logprobs`, since its policy is the old one in the next batch too.

    References
    ----------
    .. [1] Q. Yu et al. (2025). DAPO, section 3.2. arXiv 2503.14476.
    """
    size = config.prompts_per_step * config.steps_per_generation
    while True:
        begun, n_over = [] if over is None else [over], 0 if over is None else over.n_groups
        parts: list[RolloutBatch] = []
        fresh: list[Rollouts] = []
        thrown: list[int] = []
        n_found = n_over
        while n_found < size and len(parts) <= config.max_resample:
            parts.append(next(rounds))
            signal = with_signal(parts[-1], config)
            n_found += int(signal.sum())
            if (names := parts[-1].rollouts.group_ids) is not None:
                thrown += [name for name, taught in zip(names, signal, strict=True) if not taught]
            if signal.any():
                fresh.append(parts[-1].rollouts.select(signal))
        if n_found < size:
            _log.warning(
                "%d of %d groups have a signal after %d rounds; see max_resample",
                n_found,
                size,
                len(parts),
            )
        rollouts, rest = _parted([*begun, *fresh], size, policy, config)
        if rollouts is None:
            rollouts = parts[-1].rollouts
            thrown = thrown[: len(thrown) - rollouts.n_groups]
        long = beyond_limits(rollouts, {"the model's context": policy.context}, config)
        batch = _batch(parts, rollouts, long, over=rest, found=n_found - n_over)
        yield replace(batch, left_out=thrown + [n for part in parts for n in part.left_out])
        over = rest


def with_signal(batch: RolloutBatch, config: Config) -> NDArray[np.bool_]:
    """Return which groups of a batch have a signal in their raw rewards, shape (n_groups,).

    Examples
    --------
    >>> from gspo_rs.train.config.config import Config, resolve
    >>> rewards = np.array([0.0, 1.0, 1.0, 1.0])
    >>> texts = {"prompts": ["p"] * 4, "completions": ["c"] * 4}
    >>> tokens = Ragged.from_rows([[1]] * 4, np.int64)
    >>> some = Rollouts(np.array([0, 2, 4]), reward=rewards, completion_tokens=tokens, **texts)
    >>> config = resolve(Config(model="m", prompts="p", algorithm="grpo"))
    >>> with_signal(RolloutBatch(some, np.zeros(4, bool), {}), config)
    array([ True, False])
    """
    assert config.advantage is not None
    return standing_of(
        batch.rollouts,
        config.advantage,
        config.advantage_options,
        too_long=batch.too_long,
        weights=config.reward_weights,
    ).informative


def _parted(
    parts: list[Rollouts], size: int, policy: Policy, config: Config
) -> tuple[Rollouts | None, Rollouts | None]:
    """Return the first `size` groups, and the others with the log-probabilities of their policy."""
    if not parts:
        return None, None
    if any(part.old_logprobs is not None for part in parts):
        parts = [_with_old(part, policy, config) for part in parts]
    whole = joined(parts)
    if whole.n_groups <= size:
        return whole, None
    rest = whole.select(np.arange(size, whole.n_groups))
    return whole.select(np.arange(size)), _with_old(rest, policy, config)


def _with_old(rollouts: Rollouts, policy: Policy, config: Config) -> Rollouts:
    """Return rollouts with the log-probabilities of the policy that sampled them just now."""
    if rollouts.old_logprobs is not None:
        return rollouts
    assert rollouts.prompt_tokens is not None
    assert rollouts.completion_tokens is not None
    if sampler_is_old(policy, config):
        return replace(rollouts, old_logprobs=rollouts.sampler_logprobs)
    lengths = rollouts.completion_tokens.lengths
    rows = np.flatnonzero(lengths)
    nothing = torch.zeros(len(rows))
    some = rollouts.prompt_tokens.rows(rows), rollouts.completion_tokens.rows(rows)
    # Of all tokens, sampled or not; the rows that are left out have none.
    values = recompute(policy, TrainingBatch(*some, nothing, nothing), config).values
    return replace(rollouts, old_logprobs=Ragged(values, lengths))


def _batch(
    parts: list[RolloutBatch],
    rollouts: Rollouts,
    too_long: NDArray[np.bool_],
    *,
    over: Rollouts | None,
    found: int,
) -> RolloutBatch:
    """Return a batch with what its rounds took, and the share of them that was thrown away."""
    seconds: Counter[str] = Counter()
    for part in parts:
        seconds.update(part.seconds)
    sampled = sum(part.rollouts.n_groups for part in parts)
    rewards = [part.rollouts.reward for part in parts]
    return RolloutBatch(
        rollouts,
        too_long,
        dict(seconds),
        dropped=sum(part.dropped for part in parts),
        rounds=len(parts),
        over=over,
        sampling={
            "dynamic_sampling/rounds": float(len(parts)),
            "dynamic_sampling/thrown_frac": 1 - found / sampled if sampled else np.nan,
            "dynamic_sampling/reward": mean_of_known(np.concatenate(rewards)),
        },
        logged=pooled([part.logged for part in parts]),
    )
