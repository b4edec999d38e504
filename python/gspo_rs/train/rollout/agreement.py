"""Whether the sampler and the training pass agree on the policy's log-probabilities.

Letters: ``o`` and ``u`` are the log-probabilities of a sampled token by the training pass and by
the sampler.
"""

import logging

import numpy as np
import torch

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy, PolicyError
from gspo_rs.train.step.training_batch import TrainingBatch, recompute

_log = logging.getLogger("gspo_rs")

LIMITS = 2e-4, 1e-1
"""Largest mean of ``|o - u|`` that is rounding, in nats a token: float32, and less. Without a fault
float32 makes 1e-6 to 1e-5, and bfloat16, which rounds the logits of a token read from the cache
otherwise than those of a whole sequence, a few hundredths."""
SEQUENCES = 64
"""How many are compared at most."""


def check_sampler(policy: Policy, rollouts: Rollouts, config: Config) -> None:
    """Compare the sampler's log-probabilities with those of the training pass.

    Parameters
    ----------
    policy : Policy
        With the weights that sampled.
    rollouts : Rollouts
        Sampled by it, at its temperature.
    config : Config
        With ``old_logprobs = "recompute"``, or a correction, a difference is logged and no error.

    Raises
    ------
    PolicyError
        If they differ by more than rounding: every ratio would be wrong from the first step on.
    """
    assert rollouts.prompt_tokens is not None
    assert rollouts.completion_tokens is not None
    assert rollouts.sampler_logprobs is not None
    rows = np.flatnonzero(rollouts.sampled_lengths)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), SEQUENCES)).astype(np.int64)]
    if not len(rows):
        return
    nothing = torch.zeros(len(rows))
    mask = None if rollouts.completion_mask is None else rollouts.completion_mask.rows(rows)
    training_batch = TrainingBatch(
        rollouts.prompt_tokens.rows(rows),
        rollouts.completion_tokens.rows(rows),
        nothing,
        nothing,
        mask=mask,
    )
    trained = recompute(policy, training_batch, config).values.astype(np.float64)
    sampled = rollouts.sampler_logprobs.rows(rows).where(mask).values.astype(np.float64)
    apart = np.abs(trained - sampled)
    limit = LIMITS[policy.autocast is not None]
    if apart.mean() <= limit:
        return
    worst = int(apart.argmax())
    found = (
        f"model {config.model!r}: its sampler and its training pass disagree, by"
        f" {apart.mean():.2g} nats a token in the mean and {apart.max():.2g} at most over"
        f" {len(rows)} completions, where rounding makes at most {limit:g} in the mean; the"
        f" log-probability of one token is {sampled[worst]:.4g} by the sampler and"
        f" {trained[worst]:.4g} by the training pass"
    )
    if config.old_logprobs == "recompute" or config.correction != "none":
        _log.warning("%s; the ratios are those of the training pass", found)
        return
    raise PolicyError(
        f"{found}. Transformers generates with a cache that its {type(policy.model).__name__} does"
        " not read as it reads a whole sequence. With old_logprobs = 'recompute' the ratios are"
        " those of the training pass; a correction, such as 'token_truncate', makes up for the rest"
    )
