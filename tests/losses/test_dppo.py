"""DPPO by binary KL, against the KL of Bernoulli distributions that PyTorch has."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence

from gspo_rs.losses import dppo_loss

LENGTHS = [4, 1, 6, 3, 9]
OPTIONS = {"delta_low": 0.01, "delta_high": 0.03, "w_max": 1.3, "divergence": "kl"}


def drawn(seed):
    """Log-probabilities of flat tokens now and before, and an advantage for each sequence."""
    generator = torch.Generator().manual_seed(seed)
    old, moved = torch.randn(2, sum(LENGTHS), generator=generator, dtype=torch.float64)
    old = -old.abs() - 1e-3
    new = (old + 0.6 * moved).clamp(max=-1e-3)
    return new, old, torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64)


def outcomes(log_p):
    return Bernoulli(torch.tensor(math.exp(log_p), dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(5))
def test_tokens_whose_two_outcomes_have_diverged_lose_their_gradient(seed, dtype):
    new, old, advantages = drawn(seed)
    leaf, lengths = new.to(dtype, copy=True).requires_grad_(), torch.tensor(LENGTHS)
    loss, metrics = dppo_loss(leaf, old.to(dtype), advantages, None, lengths=lengths, **OPTIONS)
    loss.backward()
    slopes, high, low = [], 0, 0
    owners = [i for i, length in enumerate(LENGTHS) for _ in range(length)]
    for l, o, i in zip(new.tolist(), old.tolist(), owners, strict=True):  # noqa: E741
        a, kl = advantages[i].item(), kl_divergence(outcomes(o), outcomes(l)).item()
        risen, fallen = a > 0 and l > o and kl > 0.03, a < 0 and l < o and kl > 0.01
        weight = 0 if risen or fallen else 1 / (len(LENGTHS) * LENGTHS[i])
        slopes.append(-weight * min(math.exp(l - o), 1.3) * a)
        high, low = high + risen, low + fallen
    assert min(high, low) > 0
    expected = torch.tensor(slopes, dtype=torch.float64)
    rtol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(leaf.grad.double(), expected, rtol=rtol, atol=0)
    assert loss.item() == pytest.approx(float(expected @ new), rel=10 * rtol)
    shares = [metrics["clip/token_high"].item(), metrics["clip/token_low"].item()]
    assert shares == pytest.approx([high / len(new), low / len(new)], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_token_that_became_certain_or_impossible_is_dropped_without_nan(dtype):
    old = torch.tensor([-1.0, -1.0, 0.0, 0.0, -200.0, -200.0], dtype=dtype)
    new = torch.tensor([0.0, -200.0, 0.0, -1.0, -200.0, 0.0], dtype=dtype).requires_grad_()
    advantages, lengths = torch.tensor([1.0, -1, 1, -1, 1, 1]), torch.ones(6, dtype=torch.int64)
    loss = dppo_loss(new, old, advantages, None, lengths=lengths, divergence="kl")[0]
    loss.backward()
    assert loss.isfinite()
    assert (new.grad != 0).tolist() == [False, False, True, False, True, False]
