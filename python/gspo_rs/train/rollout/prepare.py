"""Turns one batch of rollouts into the training batches of its optimizer steps."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.advantages import soft_overlong_penalty
from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.step.minibatch import Minibatch, prepare, standing_of
from gspo_rs.train.step.objective import teaches_all
from gspo_rs.train.step.training_batch import TrainingBatch, recompute


def minibatches(rollout_batch: RolloutBatch, config: Config) -> list[Minibatch]:
    """Compare a batch of rollouts, and split it into the whole groups of each optimizer step.

    Parameters
    ----------
    rollout_batch : RolloutBatch
        Group after group.
    config : Config
        Resolved; tells groups per step and the advantage.

    Returns
    -------
    list of Minibatch
        In the order of the groups; the last may have fewer.
    """
    rollouts, too_long, cuts = rollout_batch.rollouts, rollout_batch.too_long, []
    assert config.advantage is not None
    masked = _masked(rollouts, config)
    standing = standing_of(
        rollouts,
        config.advantage,
        config.advantage_options,
        too_long=too_long,
        penalty=_penalty(rollouts, config),
        weights=config.reward_weights,
    )
    for first in range(0, rollouts.n_groups, config.prompts_per_step):
        groups = slice(first, min(first + config.prompts_per_step, rollouts.n_groups))
        rows = slice(rollouts.offsets[groups.start], rollouts.offsets[groups.stop])
        cuts.append(
            prepare(
                rollouts.select(np.arange(groups.start, groups.stop)),
                standing.part(groups, rows),
                too_long=too_long[rows],
                masked=None if masked is None else masked[rows],
                renormalise=bool(config.renormalise),
                without_signal=teaches_all(config),
                qrpo_beta=config.beta if config.loss == "qrpo" else None,
            )
        )
    return cuts


def _penalty(rollouts: Rollouts, config: Config) -> NDArray[np.float64] | None:
    """Return what is added to the rewards of long completions."""
    if config.overlong_penalty != "soft":
        return None
    assert config.overlong_cache is not None
    codes, lengths = rollouts.sequences.codes, rollouts.sampled_lengths
    lengths = np.bincount(codes, lengths).astype(np.int64)[codes]
    return soft_overlong_penalty(lengths, config.max_completion_length, config.overlong_cache)


def _masked(rollouts: Rollouts, config: Config) -> NDArray[np.bool_] | None:
    """Return which completions the token limit cut off, where the loss leaves these out."""
    if not config.mask_truncated:
        return None
    if rollouts.truncated is not None:
        return rollouts.truncated
    assert rollouts.completion_tokens is not None
    # Where nothing tells, a text of full length was given no end token.
    return rollouts.completion_tokens.lengths >= config.max_completion_length


def prepare_batches(
    cuts: list[Minibatch],
    policy: Policy,
    config: Config,
    frozen: Policy | None,
    *,
    known: Callable[[Minibatch], Ragged] | None = None,
) -> list[TrainingBatch]:
    """Add to every minibatch the weights and log-probabilities that its loss needs.

    Parameters
    ----------
    cuts : list of Minibatch
        Of one batch of rollouts, before its first optimizer step.
    policy : Policy
        With the weights that sampled them (online).
    config : Config
        Resolved.
    frozen : Policy or None
        The starting policy, where it is a model of its own.
    known : callable, optional
        Returns its log-probabilities of a minibatch, where they have been computed before.

    Returns
    -------
    list of Training batch
        One per minibatch. Offline without a column of log-probabilities the starting policy is
        the old one; the reference of the KL penalty always is.
    """
    plain = plain_batches(cuts, config)
    if not needs_start(config):
        reference: list[Ragged | None] = [None] * len(plain)
    elif known is not None:
        reference = list(map(known, cuts))
    else:
        with policies.starting(policy, config, frozen) as start:
            reference = [recompute(start, training_batch, config) for training_batch in plain]
    return [
        replace(
            training_batch,
            old_logprobs=ref
            if _starts_old(config)
            else _old(policy, config, cut, training_batch, first=place == 0),
            ref_logprobs=ref if config.beta else None,
            sampler_logprobs=_sampler(config, cut),
        )
        for place, (cut, training_batch, ref) in enumerate(zip(cuts, plain, reference, strict=True))
    ]


def plain_batches(cuts: list[Minibatch], config: Config) -> list[TrainingBatch]:
    """Add to every minibatch its weights, without log-probabilities.

    Parameters
    ----------
    cuts : list of Minibatch
        Of one batch of rollouts.
    config : Config
        Resolved.

    Returns
    -------
    list of Training batch
        One per minibatch.
    """
    return [TrainingBatch.of(cut, config.reduction, config.max_completion_length) for cut in cuts]


def needs_start(config: Config) -> bool:
    """Return whether the run needs log-probabilities of the starting policy.

    Parameters
    ----------
    config : Config
        Of the run.

    Returns
    -------
    bool
        True for a KL penalty or a loss of scores, and offline without old log-probabilities in
        the data.
    """
    return bool(config.beta) or _starts_old(config)


def sampler_is_old(policy: Policy, config: Config) -> bool:
    """Return whether the sampler's log-probabilities are taken for the old ones.

    Parameters
    ----------
    policy : Policy
        Which sampled.
    config : Config
        Of an online run.

    Returns
    -------
    bool
        Otherwise the training pass computes them. Of a policy that has moved since, the old one
        is the sampler's, whatever the precision.
    """
    compared = config.correction != "none"
    exact = policy.autocast is None or config.max_staleness > 0
    chosen = config.old_logprobs == "auto" and exact and not compared
    return chosen or config.old_logprobs == "sampler"


def _starts_old(config: Config) -> bool:
    return not config.online and config.old_logprobs_column is None


def _old(
    policy: Policy, config: Config, cut: Minibatch, training_batch: TrainingBatch, *, first: bool
) -> Ragged | None:
    """Return the old log-probabilities of a minibatch; None if they are the current ones."""
    rollouts = cut.rollouts
    if rollouts.old_logprobs is not None:
        return cut.sampled(rollouts.old_logprobs)
    stale = config.max_staleness > 0 and sampler_is_old(policy, config)
    if config.old_logprobs != "sampler" and first and config.num_iterations == 1 and not stale:
        return None  # the weights are still those that sampled: every ratio is 1
    if sampler_is_old(policy, config):
        assert rollouts.sampler_logprobs is not None
        return cut.sampled(rollouts.sampler_logprobs)
    return recompute(policy, training_batch, config)


def _sampler(config: Config, cut: Minibatch) -> Ragged | None:
    """Return the sampler's log-probabilities if the loss is corrected for the sampler."""
    if config.correction == "none" and (
        config.off_policy_mask_threshold is None or not config.online
    ):
        return None
    assert cut.rollouts.sampler_logprobs is not None
    return cut.sampled(cut.rollouts.sampler_logprobs)
