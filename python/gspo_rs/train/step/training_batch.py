"""The sequences of one optimizer step, before they are split into micro-batches.

Letters: ``m`` sequences of the step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.losses.reductions import Reduction, sequence_weights
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.microbatch import MicroBatch, collate, split
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.minibatch import Minibatch


@dataclass(frozen=True)
class TrainingBatch:
    """The sequences that a step trains on, each with its advantage and weight.

    Attributes
    ----------
    prompts, completions : Ragged of int64
        Tokens of the ``m`` sequences; of none is the sampled part empty.
    advantages, weights : Tensor, shape (m,)
        The weight of a token of each sequence comes from the whole step.
    old_logprobs, ref_logprobs : Ragged of float32 or None
        Under the policy that sampled and under the reference. Without old ones the current policy
        is the one that sampled, and every ratio is 1.
    sampler_logprobs : Ragged of float32 or None
        As the sampler computed them, where the loss is corrected for it. All log-probabilities are
        of the sampled tokens only.
    rewards : ndarray of float64, shape (m,), or None
        As they were compared, of several their sum; read by a loss that compares the members of a
        group, with the next two.
    codes : ndarray of int64, shape (m,), or None
        The group of each sequence; the step holds whole groups.
    n_groups : int
        Groups that the step counts.
    mask : Ragged of bool or None
        Which completion tokens were sampled: the model reads the others, and nothing is computed of
        them. None where all were.
    targets : Tensor of float64, shape (m,), or None
        Of `gspo_rs.losses.qrpo_loss`, where the loss is that one.
    rollouts : ndarray of int64, shape (m,), or None
        The rollout of each sequence, where one may have several; a loss that compares the members
        of a group compares rollouts.
    """

    prompts: Ragged
    completions: Ragged
    advantages: Tensor
    weights: Tensor
    old_logprobs: Ragged | None = None
    ref_logprobs: Ragged | None = None
    sampler_logprobs: Ragged | None = None
    rewards: NDArray[np.float64] | None = None
    codes: NDArray[np.int64] | None = None
    n_groups: int = 1
    mask: Ragged | None = None
    targets: Tensor | None = None
    rollouts: NDArray[np.int64] | None = None

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Sampled tokens of each sequence, shape (m,)."""
        return self.completions.where(self.mask).lengths

    @classmethod
    def of(cls, minibatch: Minibatch, reduction: Reduction | None, budget: int) -> "TrainingBatch":
        """Compute the weights of a minibatch's sequences by `reduction` over all that it counts.

        Parameters
        ----------
        minibatch : Minibatch
            Of one optimizer step.
        reduction : str or None
            Of `sequence_weights`; None for a loss that is a mean over groups.
        budget : int
            The generation budget in tokens, which ``constant`` divides by.

        Returns
        -------
        TrainingBatch
            Without log-probabilities.
        """
        weights = sequence_weights(
            np.where(minibatch.counted, minibatch.lengths, 0),
            reduction or "seq_sum",
            minibatch.groups.codes,
            budget=budget,
        )
        codes = minibatch.groups.codes
        trained = torch.from_numpy(minibatch.trained)
        return cls(
            prompts=minibatch.prompt_tokens,
            completions=minibatch.completion_tokens,
            advantages=torch.from_numpy(minibatch.advantages)[trained],
            weights=weights[trained],
            rewards=minibatch.compared[minibatch.trained],
            codes=codes[minibatch.trained],
            n_groups=max(len(np.unique(codes[minibatch.counted])), 1),
            mask=minibatch.completion_mask,
            targets=None
            if minibatch.targets is None
            else torch.from_numpy(minibatch.targets)[trained],
            rollouts=minibatch.rollout_codes,
        )


def batches(policy: Policy, training_batch: TrainingBatch, config: Config) -> Iterator[MicroBatch]:
    """Yield the sequences of a step as micro-batches within the token budget.

    Parameters
    ----------
    policy : Policy
        Tells device and layout.
    training_batch : TrainingBatch
        The sequences.
    config : Config
        Tells the budget.

    Yields
    ------
    MicroBatch
        Together those that count hold every sequence once, over all processes of the policy; each
        has as many as the others.
    """
    lengths = training_batch.prompts.lengths + training_batch.completions.lengths - 1
    budget = config.micro_batch_tokens or (2048 if policy.device.type == "cpu" else 16384)
    if policy.world.size > 1:  # as many parts at least as there are processes, if that is possible
        budget = min(budget, -(-int(lengths.sum()) // policy.world.size))
    cuts = split(
        training_batch.prompts, training_batch.completions, shape=policy.shape, max_tokens=budget
    )
    costs = [int(lengths[rows].sum()) for rows in cuts]
    for rows, counted in policy.world.dealt(cuts, costs):
        batch = collate(
            training_batch.prompts,
            training_batch.completions,
            rows,
            mask=training_batch.mask,
            shape=policy.shape,
            device=policy.device,
        )
        yield batch if counted else replace(batch, counted=False)


@torch.no_grad()
def recompute(policy: Policy, training_batch: TrainingBatch, config: Config) -> Ragged:
    """Compute the log-probabilities of every sequence under the policy's present weights.

    Parameters
    ----------
    policy : Policy
        The one that sampled, or the reference.
    training_batch : TrainingBatch
        The sequences.
    config : Config
        Tells the token budget of a micro-batch.

    Returns
    -------
    Ragged of float32
        One row per sequence; float64 of a float64 model.
    """
    found: list[Tensor] = [torch.empty(0)]
    order: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    for batch in batches(policy, training_batch, config):
        logprobs = policy.logprobs(batch)
        if batch.counted:
            found.append(logprobs.cpu())
            order.append(torch.from_numpy(batch.rows))
    ranks = policy.world.gathered({"values": torch.cat(found), "rows": torch.cat(order)})
    rows = torch.cat([rank["rows"] for rank in ranks]).numpy()
    values = torch.cat([rank["values"] for rank in ranks]).numpy()
    return Ragged(values, training_batch.lengths[rows]).rows(np.argsort(rows))
