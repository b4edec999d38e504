"""The objective that a step minimises, on any part of its sequences.

Letters: ``m`` sequences of the step, ``B`` of them in a micro-batch, ``n_tokens`` their tokens.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs import losses
from gspo_rs.losses.layout import Layout, to_device
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.train.config.config import Config
from gspo_rs.train.config.presets import GROUP_LOSSES, OPTIONS, SCORE_LOSSES, SEQUENCE_LOSSES
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.step.training_batch import TrainingBatch, batches
from gspo_rs.train.world import World


@dataclass(frozen=True)
class Part:
    """Some sequences of a step as flat tensors, with their current log-probabilities.

    Attributes
    ----------
    logprobs : Tensor, shape (n_tokens,)
        With gradient.
    lengths : Tensor of int64, shape (B,)
        Tokens of each.
    rows : ndarray of int64, shape (B,)
        Which sequences of the step these are.
    entropy : Tensor, shape (n_tokens,), or None
        Of the distribution that each token is from, detached; None where nothing asks for it.
    """

    logprobs: Tensor
    lengths: Tensor
    rows: NDArray[np.int64]
    entropy: Tensor | None = None

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Put micro-batches together, all with entropies, without gradient."""
        return cls(
            logprobs=torch.cat([part.logprobs.detach() for part in parts]),
            lengths=torch.cat([part.lengths for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            entropy=torch.cat([part.entropy for part in parts if part.entropy is not None]),
        )

    @classmethod
    def of_all(cls, parts: list[Self], world: World, device: torch.device) -> Self:
        """Put the micro-batches of all processes together, as `joined` does those of one."""
        if world.size == 1:
            return cls.joined(parts)
        own: dict[str, Tensor] = {}
        if parts:
            here = cls.joined(parts)
            assert here.entropy is not None
            own = {"logprobs": here.logprobs, "lengths": here.lengths, "entropy": here.entropy}
            own["rows"] = torch.from_numpy(here.rows)
        ranks = [rank for rank in world.gathered(own) if rank]
        joint = {name: torch.cat([rank[name] for rank in ranks]) for name in ranks[0]}
        rows = joint.pop("rows").numpy()
        return cls(rows=rows, **{name: value.to(device) for name, value in joint.items()})

    def tokens(self, values: Ragged | None) -> Tensor:
        """Return the other log-probabilities of the same tokens; None means the current ones."""
        if values is None:
            return self.logprobs.detach()
        return to_device(torch.from_numpy(values.rows(self.rows).values), self.logprobs.device)

    def of(self, values: Tensor) -> Tensor:
        """Return the values of these sequences."""
        rows = to_device(torch.from_numpy(self.rows), values.device)
        return to_device(values[rows], self.logprobs.device)

    def means(self, training_batch: TrainingBatch) -> Tensor:
        """Average log-probabilities and log-ratios of each sequence, (2, B) in float64."""
        layout = Layout.of(self.logprobs, None, self.lengths)
        moved = self.logprobs.double() - self.tokens(training_batch.old_logprobs)
        return torch.stack([layout.mean(self.logprobs.double()), layout.mean(moved)])


def policy_loss(
    part: Part, training_batch: TrainingBatch, config: Config, *, metrics: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a part of a step; the parts add up to the loss of the step.

    Parameters
    ----------
    part : Part
        A micro-batch, or the whole step.
    training_batch : TrainingBatch
        The step.
    config : Config
        Resolved; not for a loss that compares the members of a group.
    metrics : bool
        Whether the loss measures how far the policy has moved.

    Returns
    -------
    loss : Tensor, scalar
        With gradient where the part has one.
    metrics : dict of str to Tensor
        Of this part: those of the loss, of the correction and of the KL penalty.
    """
    assert config.loss is not None
    if config.loss == "qrpo":
        return _qrpo_loss(part, training_batch, config)
    old = part.tokens(training_batch.old_logprobs)
    advantages, corrected = _advantages(part, old, training_batch, config)
    weights = part.of(training_batch.weights)
    loss, measured = getattr(losses, f"{config.loss}_loss")(
        part.logprobs,
        old,
        advantages,
        None,
        weights,
        lengths=part.lengths,
        metrics=metrics,
        **_options(config),
    )
    measured |= corrected
    if config.beta:
        penalty, kl = losses.kl_penalty(
            part.logprobs,
            part.tokens(training_batch.ref_logprobs),
            None,
            weights,
            estimator=config.kl_estimator,
            old_logprobs=old,
            lengths=part.lengths,
            level="sequence" if config.loss in SEQUENCE_LOSSES | {"gspo_token"} else "token",
        )
        loss, measured = loss + config.beta * penalty, measured | kl
    return loss, measured


def _qrpo_loss(
    part: Part, training_batch: TrainingBatch, config: Config
) -> tuple[Tensor, dict[str, Tensor]]:
    assert training_batch.targets is not None
    assert config.beta is not None
    return losses.qrpo_loss(
        part.logprobs,
        part.tokens(training_batch.ref_logprobs),
        part.of(training_batch.targets),
        None,
        part.of(training_batch.weights),
        beta=config.beta,
        lengths=part.lengths,
    )


def compares_groups(config: Config) -> bool:
    """Return whether the loss compares the members of a group.

    Parameters
    ----------
    config : Config
        Resolved.

    Returns
    -------
    bool
        Then a micro-batch has no loss of its own: see `group_slopes`.
    """
    return config.loss in GROUP_LOSSES


def teaches_all(config: Config) -> bool:
    """Return whether a group without signal adds to the objective.

    Parameters
    ----------
    config : Config
        Resolved.

    Returns
    -------
    bool
        True for a KL penalty, which pulls every sequence to the starting policy whatever its
        advantage, for ``top_fraction``, whose target for a tied group is the uniform one, and for
        ``qrpo``, where each sequence has a target. The other losses of groups compare members of
        unlike reward only, and every other term, the corrections among them, is a factor of the
        advantage.
    """
    if config.loss in SCORE_LOSSES:
        return config.loss in ("top_fraction", "qrpo")
    return bool(config.beta)


def slopes_need_logprobs(training_batch: TrainingBatch, config: Config) -> bool:
    """Return whether the gradient of the loss for log-probabilities depends on their values.

    Parameters
    ----------
    training_batch : TrainingBatch
        The step.
    config : Config
        Resolved; not for a loss that compares the members of a group.

    Returns
    -------
    bool
        False where the current policy is the old one, so that every ratio is 1, and nothing else
        compares it: then no gradient waits for the end of a sequence.
    """
    old = training_batch.old_logprobs is None and training_batch.sampler_logprobs is None
    return not old or bool(config.beta) or config.loss == "qrpo"


def group_slopes(
    policy: Policy, training_batch: TrainingBatch, config: Config
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return the gradient of a loss of whole groups with respect to the sequence scores.

    The backward passes of ``sum_i c_i h_i`` over micro-batches then add up to the gradient of the
    loss, since the weights do not move between the two passes.

    Parameters
    ----------
    policy : Policy
        As it is.
    training_batch : TrainingBatch
        Whole groups, with `ref_logprobs`.
    config : Config
        Resolved.

    Returns
    -------
    slopes : Tensor of float64, shape (m,)
        ``c = dL/dh``, of a rollout of several sequences the same for each.
    loss : Tensor, scalar
        Detached.
    metrics : dict of str to Tensor
        Those of the loss.
    """
    assert config.loss is not None
    scores = torch.zeros(len(training_batch.prompts), dtype=torch.float64, device=policy.device)
    with torch.no_grad():
        for batch in batches(policy, training_batch, config):
            part = Part(policy.logprobs(batch), batch.lengths, batch.rows)
            if batch.counted:
                found = group_scores(part, training_batch, config)
                scores[to_device(torch.from_numpy(batch.rows), policy.device)] = found
    scores = policy.world.total(scores)  # of each sequence one rank has it
    scores.requires_grad_()
    options = _options(config) | ({"beta": config.beta} if config.loss == "ipo" else {})
    loss, metrics = getattr(losses, f"{config.loss}_loss")(
        *_of_rollouts(scores, training_batch, average=config.loss == "ipo"),
        n_groups=training_batch.n_groups,
        **options,
    )
    return torch.autograd.grad(loss, scores)[0], loss.detach(), metrics


def _of_rollouts(
    scores: Tensor, training_batch: TrainingBatch, *, average: bool
) -> tuple[Tensor, NDArray[np.float64] | None, NDArray[np.int64] | None]:
    """Return the score of each rollout, with its reward and group.

    That of several sequences is their sum, or `average` over all of their tokens.
    """
    rewards, codes = training_batch.rewards, training_batch.codes
    if training_batch.rollouts is None or rewards is None or codes is None:
        return scores, rewards, codes
    _, firsts, owner = np.unique(training_batch.rollouts, return_index=True, return_inverse=True)
    place = to_device(torch.from_numpy(owner), scores.device)
    lengths = to_device(torch.from_numpy(training_batch.lengths), scores.device)
    weights = lengths.to(scores.dtype) if average else torch.ones_like(scores)
    nothing = scores.new_zeros(len(firsts))
    joined = nothing.index_add(0, place, scores * weights)
    if average:
        joined = joined / nothing.index_add(0, place, weights)
    return joined, rewards[firsts], codes[firsts]


def group_scores(part: Part, training_batch: TrainingBatch, config: Config) -> Tensor:
    """Return the score of each sequence of a part.

    Parameters
    ----------
    part : Part
        A micro-batch.
    training_batch : TrainingBatch
        With `ref_logprobs`.
    config : Config
        Resolved.

    Returns
    -------
    Tensor of float64, shape (B,)
        With gradient where the part has one.
    """
    assert config.beta is not None
    return losses.sequence_scores(
        part.logprobs,
        part.tokens(training_batch.ref_logprobs),
        None,
        beta=1.0 if config.loss == "ipo" else config.beta,
        average=config.loss == "ipo",
        lengths=part.lengths,
    )


def _options(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in OPTIONS[config.loss or "gspo"]}


def _advantages(
    part: Part, old: Tensor, training_batch: TrainingBatch, config: Config
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the corrected advantages of a part, and the metrics of the correction."""
    advantages = part.of(training_batch.advantages)
    metrics: dict[str, Tensor] = {}
    sampler = (
        old
        if training_batch.sampler_logprobs is None
        else part.tokens(training_batch.sampler_logprobs)
    )
    if config.off_policy_mask_threshold is not None:
        kept, metrics = losses.off_policy_mask(
            part.logprobs,
            sampler,
            advantages,
            None,
            delta=config.off_policy_mask_threshold,
            lengths=part.lengths,
        )
        advantages = advantages * kept
    if config.correction != "none":
        factors, mismatch = losses.sampler_correction(
            old,
            sampler,
            None,
            mode=config.correction,
            low=config.correction_low,
            high=config.correction_high,
            lengths=part.lengths,
        )
        if config.correction.startswith("token"):
            advantages = Layout.of(part.logprobs, None, part.lengths).spread(advantages)
        advantages, metrics = advantages * factors, metrics | mismatch
    return advantages, metrics
