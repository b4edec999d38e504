"""Step: one optimizer step over a minibatch of whole groups, however it is cut.

Letters: ``m`` sequences of the step, ``n_tokens`` their sampled tokens.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gspo_rs.train.config.config import Config
from gspo_rs.train.model.microbatch import MicroBatch
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.objective import (
    Part,
    compares_groups,
    group_scores,
    group_slopes,
    policy_loss,
    weighs_sequences,
)
from gspo_rs.train.step.training_batch import TrainingBatch, batches


class TrainingDivergedError(RuntimeError):
    """Loss or gradient were not finite in three steps after one another."""


def take(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    training_batch: TrainingBatch,
    config: Config,
    *,
    rate: float,
) -> dict[str, float]:
    """Take one optimizer step, or skip it where loss or gradient are not finite.

    Parameters
    ----------
    policy : Policy
        Its weights are moved.
    optimizer : torch.optim.Optimizer
        Over them.
    training_batch : TrainingBatch
        At least one sequence.
    config : Config
        Resolved; tells loss, clip, KL and the bound of the gradient's norm.
    rate : float
        Learning rate of this step.

    Returns
    -------
    dict of str to float
        `policy_metrics` over the whole step, ``loss``, ``grad_norm``, and ``skipped``, 1 if the
        weights were left as they are. The CPU waits for the GPU once.
    """
    optimizer.zero_grad(set_to_none=True)
    measured = backward(policy, training_batch, config)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    bound = config.max_grad_norm or math.inf
    measured["grad_norm"] = torch.nn.utils.clip_grad_norm_(parameters, bound)
    values = torch.stack([value.double() for value in measured.values()]).tolist()
    metrics = dict(zip(measured, values, strict=True))
    skipped = not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]))
    if not skipped:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {**metrics, "skipped": float(skipped), "learning_rate": rate}


def backward(policy: Policy, training_batch: TrainingBatch, config: Config) -> dict[str, Tensor]:
    """Add the gradient of the step's loss to the weights, micro-batch after micro-batch.

    Parameters
    ----------
    policy : Policy
        Its parameters' ``grad`` grows.
    training_batch : TrainingBatch
        At least one sequence.
    config : Config
        Resolved.

    Returns
    -------
    dict of str to Tensor
        Detached scalars: ``loss`` and the metrics of all micro-batches together, since a maximum
        or a percentile cannot be averaged.
    """
    if compares_groups(config):
        slopes, loss, metrics = group_slopes(policy, training_batch, config)
        for batch in batches(policy, training_batch, config):
            _, surrogate = _in_one_pass(
                policy,
                batch,
                lambda part: (part.of(slopes) * group_scores(part, training_batch, config)).sum(),
                lengths=None,
            )
            torch.autograd.backward(surrogate)
        return {**metrics, "loss": loss}
    parts, values = [], []
    for batch in batches(policy, training_batch, config):
        part, gradient = _taken(policy, batch, training_batch, config)
        loss, _ = policy_loss(part, training_batch, config)
        torch.autograd.backward(loss + gradient)
        parts.append(replace(part, logprobs=part.logprobs.detach()))
        values.append(loss.detach())
    whole = Part(
        logprobs=torch.cat([part.logprobs for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
    )
    _, metrics = policy_loss(whole, training_batch, config)
    return {**metrics, "loss": torch.stack(values).sum()}


def _taken(
    policy: Policy, batch: MicroBatch, training_batch: TrainingBatch, config: Config
) -> tuple[Part, Tensor | float]:
    """Return a micro-batch, and the gradient of its loss where its log-probabilities have none."""
    if not weighs_sequences(config):
        return Part(policy.logprobs(batch), batch.lengths, batch.rows), 0.0
    known = training_batch.old_logprobs is None and training_batch.sampler_logprobs is None
    return _in_one_pass(
        policy,
        batch,
        lambda part: policy_loss(part, training_batch, config)[0],
        lengths=None if known else training_batch.completions.lengths[batch.rows].tolist(),
    )


def _in_one_pass(
    policy: Policy, batch: MicroBatch, loss: Callable[[Part], Tensor], lengths: list[int] | None
) -> tuple[Part, Tensor]:
    """Return a micro-batch without gradient, and 0 with the gradient of its loss."""

    def share(logprobs: Tensor, _tokens: slice, rows: slice) -> Tensor:
        return loss(Part(logprobs, batch.lengths[rows], batch.rows[rows]))

    gradient, logprobs = policy.one_pass(batch, share, lengths)
    return Part(logprobs, batch.lengths, batch.rows), gradient
