"""A copy of the policy's weights that transformers samples from while the policy is in training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import Policy as Sampled
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.model.sharded import copied
from gspo_rs.train.rollout.engine import Transformers
from gspo_rs.train.world import ALONE

__all__ = ["CopiedWeights"]


class CopiedWeights:
    """Draws as `Transformers` does, with the weights that the policy had at the last refresh.

    Takes the memory of what is trained once more: with LoRA that of the adapters, which share the
    weights below them. Of several processes each has a whole copy.
    """

    def __init__(self) -> None:
        self._copy: Policy | None = None

    def generate(
        self,
        policy: Sampled,  # noqa: ARG002 -- which is in training
        prompts: Sequence[Any],
        **options: Any,
    ) -> Rollouts:
        """Draw completions; see `gspo_rs.samplers.transformers.generate`."""
        assert self._copy is not None
        return Transformers().generate(self._copy, prompts, **options)

    def refresh(self, policy: Sampled, version: int) -> None:  # noqa: ARG002 -- copied each time
        """Copy the weights; nobody may sample meanwhile, and all processes have to ask."""
        assert isinstance(policy, Policy)
        if self._copy is None:
            self._copy = dataclasses.replace(
                policy, model=_copy_of(policy), world=ALONE, sharded=None
            )
        mine = dict(self._copy.model.named_parameters())

        @torch.no_grad()
        def take(model: Any) -> None:
            for name, weight in model.named_parameters():
                if mine[name].data_ptr() != weight.data_ptr():
                    mine[name].copy_(weight)

        if policy.sharded is None:
            take(policy.model)
        else:  # which has all weights only there
            policy.sampling(take)

    def close(self) -> None:
        """Let go of the copy."""
        self._copy = None


def _copy_of(policy: Policy) -> Any:
    """Return a copy of the model, of which what is not trained takes no memory unless it is cut.

    On a GPU it is in the precision that samples there, and not what is rounded for every batch.
    """
    if policy.sharded is not None:
        skeleton = policy.sharded.skeleton()
        model = copied(skeleton, lambda weight: torch.empty_like(weight, device="cpu"))
        return model.to(policy.device).requires_grad_(True)
    return copy.deepcopy(
        policy.model,
        {id(weight): _own(weight, policy.sampling_dtype) for weight in policy.model.parameters()},
    )


def _own(weight: nn.Parameter, dtype: torch.dtype | None) -> nn.Parameter:
    """Return a parameter of the copy; one that is trained has memory of its own."""
    data = weight.detach()
    if dtype is not None and data.dtype == torch.float32:
        data = data.to(dtype)
    elif weight.requires_grad:
        data = data.clone()
    # With gradient as before, or autocast would cast each weight anew for each token.
    return nn.Parameter(data, requires_grad=weight.requires_grad)
