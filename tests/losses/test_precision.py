"""Low precision: no further from the float64 answer than the plain expression is."""

import numpy as np
import pytest
import torch

from gspo_rs import losses


def plain(name, new, old, advantages, mask):
    """The loss as one would write it in PyTorch, in the precision of its input."""
    count = mask.sum(1)
    advantages = advantages.to(new.dtype)
    log_ratio = (new - old) * mask
    ratio = log_ratio.exp()
    sequence = (log_ratio.sum(1) / count).exp()
    column = advantages[:, None]

    def mean(terms):
        return ((terms * mask).sum(1) / count).mean()

    def pessimistic(x, a, low, high):
        return -torch.minimum(x * a, x.clamp(1 - low, 1 + high) * a)

    if name in ("gspo", "gspo_token"):
        return pessimistic(sequence, advantages, 3e-4, 4e-4).mean()
    if name == "luspo":
        return (count * pessimistic(sequence, advantages, 2e-3, 2.5e-3)).mean()
    if name == "grpo":
        return mean(pessimistic(ratio, column, 0.2, 0.2))
    if name == "sapo":
        tau = torch.where(column > 0, 1.0, 1.05).to(new.dtype)
        return mean(-4 / tau * torch.sigmoid(tau * (ratio - 1)) * column)
    if name == "gmpo":
        return -(sequence * advantages).mean()  # no token leaves the band of 0.4
    if name == "qrpo":
        return (advantages - 0.1 * log_ratio.sum(1)).square().mean()
    if name == "vespo":
        log_w = log_ratio.detach().sum(1, keepdim=True)
        k, lam = (torch.where(column >= 0, a, b).to(new.dtype) for a, b in ((2.0, 3.0), (3.0, 2.0)))
        return mean(-(k * log_w + lam * (1 - log_w.exp())).exp() * column * new)
    weight = torch.ones_like(ratio) if name == "reinforce" else ratio.detach()
    return mean(-weight * column * new)


def valued(loss_of, new, *rest):
    leaf = new.detach().clone().requires_grad_()
    loss = loss_of(leaf, *rest)
    loss.backward()
    return loss.detach(), leaf.grad


NAMES = "gspo gspo_token grpo sapo cispo gmpo luspo vespo dppo reinforce qrpo"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES.split())
def test_low_precision_is_no_further_from_float64_than_the_plain_expression(name, dtype, seed):
    rng = np.random.default_rng(seed)
    old = torch.tensor(-rng.exponential(1.0, (8, 40)))
    new = (old + torch.tensor(2e-3 * rng.standard_normal(old.shape))).to(dtype)
    mask = torch.arange(40) < torch.tensor(rng.integers(1, 41, 8))[:, None]
    rest = (torch.tensor(rng.standard_normal(8)), mask)

    truth = valued(lambda *x: plain(name, *x), new.double(), old.to(dtype).double(), *rest)
    theirs = valued(lambda *x: plain(name, *x), new, old.to(dtype), *rest)
    ours = getattr(losses, f"{name}_loss")
    found = valued(lambda *x: ours(*x)[0], new, old.to(dtype), *rest)
    assert found[0].dtype == torch.float32
    for mine, other, exact in zip(found, theirs, truth, strict=True):
        assert (mine.double() - exact).norm() <= (other.double() - exact).norm()
