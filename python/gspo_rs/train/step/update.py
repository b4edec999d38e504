"""One optimizer step over a minibatch of whole groups, however it is split.

Letters: ``m`` sequences of the step, ``n_tokens`` their sampled tokens.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.losses.correction import mismatch_metrics
from gspo_rs.losses.layout import to_device
from gspo_rs.losses.metrics import entropy_metrics
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.microbatch import MicroBatch
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.model.sharded import whole
from gspo_rs.train.step import master_weights
from gspo_rs.train.step.group_metrics import order_metrics
from gspo_rs.train.step.objective import (
    Part,
    compares_groups,
    group_scores,
    group_slopes,
    policy_loss,
    slopes_need_logprobs,
)
from gspo_rs.train.step.training_batch import TrainingBatch, batches

TOP = 0.2
"""The best of a group whose log-ratios are compared with the rest's, where the loss has no own."""


class TrainingDivergedError(RuntimeError):
    """Loss or gradient were not finite in three consecutive steps."""


def take(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    training_batch: TrainingBatch,
    config: Config,
    *,
    rate: float,
    sampler: Ragged | None = None,
) -> dict[str, float]:
    """Take one optimizer step, or skip it if loss or gradient are not finite.

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
    sampler : Ragged of float32, optional
        Log-probabilities as the sampler computed them, where its weights are still the policy's.

    Returns
    -------
    dict of str to float
        `policy_metrics`, `entropy_metrics` and `order_metrics` over the whole step,
        `mismatch_metrics` of `sampler`, ``loss``, ``grad_norm``, ``skipped``, 1 if the weights were
        left as they are, and the seconds ``time/backward`` and ``time/optimizer``. The CPU waits
        for the GPU once.
    """
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    measured, step = backward(policy, training_batch, config, sampler=sampler)
    if sampler is not None:
        drawn = step.tokens(sampler)
        measured |= mismatch_metrics(step.logprobs, drawn, None, lengths=step.lengths)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    bound = config.max_grad_norm or math.inf
    measured["grad_norm"] = whole(torch.nn.utils.clip_grad_norm_(parameters, bound))
    scalars = torch.stack([value.double() for value in measured.values()])
    means = step.means(training_batch)
    values = torch.cat([scalars, means.flatten()]).numpy(force=True)
    metrics = dict(zip(measured, values.tolist(), strict=False))
    metrics |= _order(
        step.rows, training_batch, values[len(measured) :].reshape(means.shape), config
    )
    known = time.perf_counter()
    skipped = not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]))
    if not skipped:
        for group in optimizer.param_groups:
            group["lr"] = rate
        master_weights.step(optimizer)
    optimizer.zero_grad(set_to_none=True)
    seconds = {"time/backward": known - began, "time/optimizer": time.perf_counter() - known}
    return {**metrics, "skipped": float(skipped), "learning_rate": rate, **seconds}


def _order(
    rows: NDArray[np.int64],
    training_batch: TrainingBatch,
    means: NDArray[np.float64],
    config: Config,
) -> dict[str, float]:
    """Compare the order that the policy has in the groups with that of the rewards."""
    if training_batch.rewards is None or training_batch.codes is None:
        return {}
    q = TOP if config.q is None else config.q
    return order_metrics(training_batch.rewards[rows], training_batch.codes[rows], *means, q=q)


def backward(
    policy: Policy, training_batch: TrainingBatch, config: Config, *, sampler: Ragged | None = None
) -> tuple[dict[str, Tensor], Part]:
    """Accumulate the gradient of the step's loss over its micro-batches.

    Parameters
    ----------
    policy : Policy
        Its parameters' ``grad`` grows.
    training_batch : TrainingBatch
        At least one sequence.
    config : Config
        Resolved.
    sampler : Ragged of float32, optional
        As in `take`; without old log-probabilities these tell a GPU the normalisers of the head.

    Returns
    -------
    metrics : dict of str to Tensor
        Detached scalars: ``loss`` and the metrics of all micro-batches together, since a maximum
        or a percentile cannot be averaged.
    whole : Part
        All sequences of the step, without gradient.
    """
    if compares_groups(config):
        slopes, loss, metrics = group_slopes(policy, training_batch, config)
        whole = _group_backward(policy, training_batch, slopes, config)
    else:
        whole, loss = _policy_backward(policy, training_batch, config, sampler)
        _, metrics = policy_loss(whole, training_batch, config)
    assert whole.entropy is not None
    return {**metrics, **entropy_metrics(whole.entropy), "loss": loss}, whole


def _group_backward(
    policy: Policy, training_batch: TrainingBatch, slopes: Tensor, config: Config
) -> Part:
    """Add the gradient of a loss of groups, given its slopes in the scores."""

    def share(part: Part) -> Tensor:
        return (part.of(slopes) * group_scores(part, training_batch, config)).sum()

    parts = []
    for batch in batches(policy, training_batch, config):
        part, surrogate = _in_one_pass(policy, batch, share, lengths=None)
        torch.autograd.backward(surrogate * _factor(policy, batch))
        if batch.counted:
            parts.append(part)
    return Part.of_all(parts, policy.world, policy.device)


def _factor(policy: Policy, batch: MicroBatch) -> int:
    """Return what the loss of a micro-batch is multiplied by, so that gradients add up.

    FSDP takes the mean over the processes.
    """
    return policy.world.size if batch.counted else 0


def _policy_backward(
    policy: Policy, training_batch: TrainingBatch, config: Config, sampler: Ragged | None
) -> tuple[Part, Tensor]:
    """Add the gradient of a loss of sequences or tokens; return the step, and the loss."""
    parts, values = [], []
    for batch in batches(policy, training_batch, config):
        part, gradient = _taken(policy, batch, training_batch, config, sampler)
        loss, _ = policy_loss(part, training_batch, config, metrics=False)
        torch.autograd.backward((loss + gradient) * _factor(policy, batch))
        if batch.counted:
            parts.append(replace(part, logprobs=part.logprobs.detach()))
            values.append(loss.detach())
    whole = Part.of_all(parts, policy.world, policy.device)
    own = torch.stack(values).sum() if values else torch.zeros((), device=policy.device)
    return whole, policy.world.total(own)


def _taken(
    policy: Policy,
    batch: MicroBatch,
    training_batch: TrainingBatch,
    config: Config,
    sampler: Ragged | None,
) -> tuple[Part, Tensor]:
    """Return a micro-batch without gradient, and 0 with the gradient of its loss."""
    waits = slopes_need_logprobs(training_batch, config)
    return _in_one_pass(
        policy,
        batch,
        lambda part: policy_loss(part, training_batch, config, metrics=False)[0],
        lengths=training_batch.lengths[batch.rows].tolist() if waits else None,
        near=training_batch.old_logprobs or training_batch.sampler_logprobs or sampler,
    )


def _in_one_pass(
    policy: Policy,
    batch: MicroBatch,
    loss: Callable[[Part], Tensor],
    *,
    lengths: list[int] | None,
    near: Ragged | None = None,
) -> tuple[Part, Tensor]:
    """Return a micro-batch without gradient, and 0 with the gradient of its loss."""

    def share(logprobs: Tensor, _tokens: slice, rows: slice) -> Tensor:
        return loss(Part(logprobs, batch.lengths[rows], batch.rows[rows]))

    known = None if near is None else torch.from_numpy(near.rows(batch.rows).values)
    known = None if known is None else to_device(known, policy.device)
    gradient, logprobs, entropy = policy.one_pass(batch, share, lengths, known)
    return Part(logprobs, batch.lengths, batch.rows, entropy), gradient
