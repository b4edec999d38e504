"""One optimizer step over a minibatch of whole groups, however it is split.

Letters: ``m`` sequences of the step, ``n_tokens`` their sampled tokens.
"""

import math
import time
from collections.abc import Callable

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

        def share(part: Part) -> Tensor:
            return (part.of(slopes) * group_scores(part, training_batch, config)).sum()

        whole = _passes(policy, training_batch, config, share)
    else:

        def share(part: Part) -> Tensor:
            return policy_loss(part, training_batch, config, metrics=False)[0]

        near = training_batch.old_logprobs or training_batch.sampler_logprobs or sampler
        waits = slopes_need_logprobs(training_batch, config)
        whole = _passes(policy, training_batch, config, share, waits=waits, near=near)
        loss, metrics = policy_loss(whole, training_batch, config)
    assert whole.entropy is not None
    return {**metrics, **entropy_metrics(whole.entropy), "loss": loss}, whole


def _passes(
    policy: Policy,
    training_batch: TrainingBatch,
    config: Config,
    share: Callable[[Part], Tensor],
    *,
    waits: bool = False,
    near: Ragged | None = None,
) -> Part:
    """Add the gradient of a loss that is a sum of `share` of parts; return the whole step.

    `waits` says that the slopes of a sequence are not known before its last log-probability.
    """
    parts = []
    for batch in batches(policy, training_batch, config):
        lengths = training_batch.lengths[batch.rows].tolist() if waits else None
        part, gradient = _in_one_pass(policy, batch, share, lengths=lengths, near=near)
        # FSDP takes the mean over the processes.
        factor = policy.world.size if batch.counted else 0
        torch.autograd.backward(gradient * factor)
        if batch.counted:
            parts.append(part)
    return Part.of_all(parts, policy.world, policy.device)


def _in_one_pass(
    policy: Policy,
    batch: MicroBatch,
    loss: Callable[[Part], Tensor],
    *,
    lengths: list[int] | None,
    near: Ragged | None,
) -> tuple[Part, Tensor]:
    """Return a micro-batch without gradient, and 0 with the gradient of its loss."""

    def share(logprobs: Tensor, _tokens: slice, rows: slice) -> Tensor:
        return loss(Part(logprobs, batch.lengths[rows], batch.rows[rows]))

    known = None if near is None else torch.from_numpy(near.rows(batch.rows).values)
    known = None if known is None else to_device(known, policy.device)
    gradient, logprobs, entropy = policy.one_pass(batch, share, lengths, known)
    return Part(logprobs, batch.lengths, batch.rows, entropy), gradient
