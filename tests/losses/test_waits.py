"""Losses of groups on a GPU: the host decides what is compared, and waits for nothing."""

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException
from torch.utils._python_dispatch import TorchDispatchMode

from fixtures.fake_gpu import fake_gpu
from gspo_rs import losses
from gspo_rs.losses import linear
from gspo_rs.losses.layout import to_device


@pytest.mark.parametrize("name", ["plackett_luce", "pairwise", "top_fraction", "dpo", "ipo"])
def test_losses_of_groups_never_wait_for_the_gpu(name):
    rewards, groups = [1.0, 0.0, 1.0, 2.0, 3.0, 3.0], [0, 0, 0, 1, 1, 1]
    with fake_gpu():
        scores = torch.zeros(6, device="cuda", requires_grad=True)
        loss, metrics = getattr(losses, f"{name}_loss")(scores, rewards, groups)
        assert loss.device.type == "cuda"
        assert loss.requires_grad
        assert {value.device.type for value in metrics.values()} == {"cuda"}


@pytest.mark.parametrize("lengths", [[2, 1], [5, -1], [4, 1]])
def test_lengths_that_do_not_fit_are_refused_before_a_gpu_sees_them(lengths, monkeypatch):
    sent = []
    monkeypatch.setattr(linear, "to_device", lambda *given: sent.append(given))
    head, targets = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="sum to the 4 log-probabilities"):
        losses.linear_gspo_loss(
            head, head, targets, None, torch.zeros(2), lengths=torch.tensor(lengths)
        )
    assert not sent


def test_a_mask_would_wait_for_the_gpu():
    with fake_gpu():
        scores = torch.zeros(6, device="cuda")
        with pytest.raises(DynamicOutputShapeException):
            scores[scores > 0]


class Copies(TorchDispatchMode):
    """Notes of each copy whether it is waited for."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "_to_copy":
            self.waited.append(not kwargs.get("non_blocking", False))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("start", "end", "waited"), [("cpu", "cuda", False), ("cuda", "cpu", True)]
)
def test_what_comes_to_the_cpu_is_waited_for_and_what_goes_to_a_gpu_is_not(start, end, waited):
    copies = Copies()
    with fake_gpu(), copies:
        assert to_device(torch.zeros(2, device=start), end).device.type == end
    assert copies.waited == [waited]


class Names(TorchDispatchMode):
    """Notes the operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["gspo", "gspo_token", "luspo", "grpo", "gmpo"])
def test_the_slopes_of_a_clipped_loss_are_known_before_its_backward_pass_but_for_a_factor(name):
    logprobs = (-torch.rand(7, dtype=torch.float64)).requires_grad_()
    given = logprobs.detach() - 1e-4, torch.tensor([1.0, -1.0]), None
    loss, _ = getattr(losses, f"{name}_loss")(logprobs, *given, lengths=torch.tensor([3, 4]))
    with Names() as noted:
        loss.backward()
    assert logprobs.grad.any()
    assert noted.names <= {"ones_like", "mul", "detach"}


@pytest.mark.parametrize("name", ["sapo", "cispo", "vespo", "reinforce", "dppo"])
def test_no_backward_pass_has_one_thread_walk_through_a_sequence(name):
    logprobs = -torch.rand(7, dtype=torch.float64)
    given = torch.tensor([1.0, -1.0, 2.0]), None
    noted, found = Names(), logprobs.clone().requires_grad_()
    lengths = torch.tensor([3, 0, 4])
    with noted:
        loss, _ = getattr(losses, f"{name}_loss")(found, logprobs - 0.1, *given, lengths=lengths)
        loss.backward()
    assert found.grad.any()
    assert "segment_reduce" in noted.names
    assert "_segment_reduce_backward" not in noted.names
