"""Advantage estimators and the GSPO loss in verl's registries.

    VERL_USE_EXTERNAL_MODULES=gspo_rs.integrations.verl
    algorithm.adv_estimator=gspo_rs.percentile
    actor_rollout_ref.actor.policy_loss.loss_mode=gspo_rs

Importing this module registers ``gspo_rs.<estimator>`` for every estimator of `gspo_rs.advantage`
that needs no option, and the policy loss ``gspo_rs``. Letters: ``B`` sequences, ``T`` tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import (
    register_adv_est,
    register_policy_loss,
)

from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.estimators import ESTIMATORS
from gspo_rs.losses import gspo_token_loss

__all__ = ["FREE", "PREFIX", "estimator_of", "policy_loss"]

PREFIX = "gspo_rs."
FREE = tuple(name for name, found in ESTIMATORS.items() if found.free)
"""Estimators without an option that must be given."""


def estimator_of(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the estimator `name` with the signature of verl's registry.

    Parameters
    ----------
    name : str
        One of `FREE`.

    Returns
    -------
    callable
        Of ``token_level_rewards`` (B, T), whose sum over the tokens is the reward of a sequence,
        ``response_mask`` (B, T) and ``index`` (B,), the ids of the groups: verl's ``uid``. It
        returns the advantages (B, T), twice, 0 outside the mask.

    Raises
    ------
    ValueError
        If verl gives no ``index``, or a reward is infinite.
    """

    def group_advantage(
        token_level_rewards: Tensor, response_mask: Tensor, index: Any = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        if index is None:
            raise ValueError(f"{PREFIX}{name} got no index; the batch needs the uid of each prompt")
        rewards = token_level_rewards.double().sum(dim=-1).cpu().numpy()  # (B,)
        options: dict[str, Any] = {}
        if "lengths" in ESTIMATORS[name].needs:
            options["lengths"] = response_mask.sum(dim=-1).long().cpu().numpy()
        found = torch.from_numpy(advantage(rewards, list(index), name, **options))
        found = found.to(token_level_rewards)[:, None] * response_mask  # (B, T)
        return found, found

    return group_advantage


def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "seq-mean-token-mean",
    *,
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the GSPO loss of a micro-batch, with the signature of verl's registry.

    Parameters
    ----------
    old_log_prob, log_prob, advantages : Tensor, shape (B, T)
        In verl's words.
    response_mask : Tensor, shape (B, T)
        Not 0 where the policy sampled the token.
    loss_agg_mode : str
        ``"seq-mean-token-mean"``: the paper's.
    config : ActorConfig
        ``clip_ratio_low`` and ``clip_ratio_high`` are the clip of the sequence ratio;
        ``global_batch_info`` has the number of sequences of the whole step.
    rollout_is_weights : Tensor, shape (B, T), optional
        Correction for the sampler; it multiplies the advantages.

    Returns
    -------
    loss : Tensor, scalar
    metrics : dict of str to float
        Those of `gspo_rs.losses.policy_metrics`, under ``actor/``.

    Raises
    ------
    ValueError
        For another `loss_agg_mode`: under it long answers would weigh more.

    Notes
    -----
    The sequence ratio with a gradient per token, section 4.3 of the GSPO paper (arXiv
    2507.18071); with one advantage per sequence value and gradient are those of the sequence form.
    """
    if loss_agg_mode != "seq-mean-token-mean":
        raise ValueError(
            f"loss_agg_mode is {loss_agg_mode!r}; the GSPO loss is a mean over sequences: set "
            "actor.loss_agg_mode=seq-mean-token-mean"
        )
    mask = response_mask.bool()
    if rollout_is_weights is not None:
        advantages = advantages * rollout_is_weights
    lengths = mask.sum(dim=-1)
    info = config.global_batch_info
    count = info.get("global_batch_size") or (lengths > 0).sum()
    weights = (lengths > 0) * info.get("dp_size", 1) / (count * lengths.clamp(min=1))  # (B,)
    loss, metrics = gspo_token_loss(
        log_prob,
        old_log_prob,
        advantages,
        mask,
        weights,
        clip_low=config.clip_ratio_low,
        clip_high=config.clip_ratio_high,
    )
    return loss, {f"actor/{name}": value.item() for name, value in metrics.items()}


for _name in FREE:
    register_adv_est(PREFIX + _name)(estimator_of(_name))
register_policy_loss("gspo_rs")(policy_loss)
