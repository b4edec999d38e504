"""Losses of groups on a GPU: the host decides what is compared, and waits for nothing."""

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from fixtures.fake_gpu import fake_gpu
from gspo_rs import losses


@pytest.mark.parametrize("name", ["plackett_luce", "pairwise", "top_fraction", "dpo", "ipo"])
def test_losses_of_groups_never_wait_for_the_gpu(name):
    rewards, groups = [1.0, 0.0, 1.0, 2.0, 3.0, 3.0], [0, 0, 0, 1, 1, 1]
    with fake_gpu():
        scores = torch.zeros(6, device="cuda", requires_grad=True)
        loss, metrics = getattr(losses, f"{name}_loss")(scores, rewards, groups)
        assert loss.device.type == "cuda"
        assert loss.requires_grad
        assert {value.device.type for value in metrics.values()} == {"cuda"}


def test_a_mask_would_wait_for_the_gpu():
    with fake_gpu():
        scores = torch.zeros(6, device="cuda")
        with pytest.raises(DynamicOutputShapeException):
            scores[scores > 0]
