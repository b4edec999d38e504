"""A loss of your own with a fault, which `gspo-rs doctor` finds: docs/reference/losses.md."""

import torch
from torch import Tensor


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """GSPO with the clip of PPO, 0.2, which a ratio of whole sequences never reaches."""
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0).sum(1) / mask.sum(1)  # (B,)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(0.8, 1.2)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()
