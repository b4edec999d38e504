"""Step: one optimizer step over a minibatch of whole groups, however it is cut.

Letters: ``m`` sequences of the step, ``n_tokens`` their sampled tokens.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs import losses
from gspo_rs.batch import Batch
from gspo_rs.config import Config
from gspo_rs.lesson import Lesson, batches
from gspo_rs.policy import Policy
from gspo_rs.rollouts import Ragged

_LOSSES: dict[str, tuple[Any, losses.Level]] = {
    "gspo": (losses.gspo_loss, "sequence"),
    "gspo_token": (losses.gspo_token_loss, "sequence"),
    "grpo": (losses.grpo_loss, "token"),
}


class TrainingDivergedError(RuntimeError):
    """Loss or gradient were not finite in three steps after one another."""


def take(
    policy: Policy, optimizer: torch.optim.Optimizer, lesson: Lesson, config: Config, *, rate: float
) -> dict[str, float]:
    """Take one optimizer step, or skip it where loss or gradient are not finite.

    Parameters
    ----------
    policy : Policy
        Its weights are moved.
    optimizer : torch.optim.Optimizer
        Over them.
    lesson : Lesson
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
    measured = backward(policy, lesson, config)
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


def backward(policy: Policy, lesson: Lesson, config: Config) -> dict[str, Tensor]:
    """Add the gradient of the step's loss to the weights, micro-batch after micro-batch.

    Parameters
    ----------
    policy : Policy
        Its parameters' ``grad`` grows.
    lesson : Lesson
        At least one sequence.
    config : Config
        Resolved.

    Returns
    -------
    dict of str to Tensor
        Detached scalars: ``loss`` and the metrics of all micro-batches together, since a maximum
        or a percentile cannot be averaged.
    """
    parts: list[tuple[Batch, Tensor, Tensor, Tensor]] = []
    for batch in batches(policy, lesson, config):
        logprobs = policy.logprobs(batch)
        old = _tokens(lesson.old_logprobs, batch, logprobs)
        loss = _loss(logprobs, old, batch, lesson, config)
        torch.autograd.backward(loss)
        parts.append((batch, logprobs.detach(), old, loss.detach()))
    columns = list(zip(*parts, strict=True))
    logprobs, old = torch.cat(columns[1]), torch.cat(columns[2])
    lengths = torch.cat([batch.lengths for batch in columns[0]])
    rows = np.concatenate([batch.rows for batch in columns[0]])
    metrics = losses.policy_metrics(
        logprobs,
        old,
        _of(lesson.advantages, rows, logprobs),
        lengths=lengths,
        clip_low=config.clip_low or 0.0,
        clip_high=config.clip_high or 0.0,
        level=_LOSSES[config.loss or "gspo"][1],
    )
    metrics["loss"] = torch.stack(columns[3]).sum()
    if lesson.ref_logprobs is not None:
        reference = torch.from_numpy(lesson.ref_logprobs.rows(rows).values).to(logprobs)
        kl = losses.kl_penalty(logprobs, reference, None, estimator="k3", lengths=lengths)
        metrics |= kl[1]
    return metrics


def _loss(logprobs: Tensor, old: Tensor, batch: Batch, lesson: Lesson, config: Config) -> Tensor:
    function, level = _LOSSES[config.loss or "gspo"]
    weights = _of(lesson.weights, batch.rows, logprobs)
    loss: Tensor = function(
        logprobs,
        old,
        _of(lesson.advantages, batch.rows, logprobs),
        None,
        weights,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        lengths=batch.lengths,
    )[0]
    if config.beta == 0:
        return loss
    penalty, _ = losses.kl_penalty(
        logprobs,
        _tokens(lesson.ref_logprobs, batch, logprobs),
        None,
        weights,
        estimator=config.kl_estimator,
        old_logprobs=old,
        lengths=batch.lengths,
        level=level,
    )
    return loss + config.beta * penalty


def _tokens(values: Ragged | None, batch: Batch, logprobs: Tensor) -> Tensor:
    if values is None:
        return logprobs.detach()
    return torch.from_numpy(values.rows(batch.rows).values).to(logprobs.device)


def _of(values: Tensor, rows: NDArray[np.int64], like: Tensor) -> Tensor:
    return values[torch.from_numpy(rows)].to(like.device, non_blocking=True)
