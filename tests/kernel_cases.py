"""The Triton kernel against float64; `test_head_kernel.py` runs this in Triton's interpreter."""

import pytest
import torch

from gspo_rs import head_chunk, head_kernel
from gspo_rs.linear_head import linear_logprobs
from gspo_rs.losses import linear_gspo_loss

TEMPERATURE = 0.7


def case(words, dtype, spread=2.0):
    draw = torch.Generator().manual_seed(words)
    logits = torch.randn(5, words, generator=draw, dtype=torch.float64) * spread
    bias = torch.randn(words, generator=draw, dtype=torch.float64)
    targets = torch.randint(words, (5,), generator=draw)
    return logits.to(dtype), bias.to(dtype), targets


def expected(logits, bias, targets, softcap):
    """Log-probabilities, entropies and minus the gradient for the logits, by autograd."""
    leaf = logits.double().requires_grad_()
    z = leaf if bias is None else leaf + bias.double()
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    dist = torch.distributions.Categorical(logits=z / TEMPERATURE, validate_args=False)
    logprobs = dist.log_prob(targets)
    logprobs.sum().backward()
    return logprobs.detach(), dist.entropy().detach(), -leaf.grad * TEMPERATURE


def found(logits, bias, targets, softcap, residual, entropy=True):
    options = {"softcap": softcap, "temperature": TEMPERATURE}
    return head_kernel.fused_rows(
        logits.clone(), targets, bias=bias, residual=residual, entropy=entropy, **options
    )


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("words", [1, 7, 64, 100, 513])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_a_row_is_that_of_float64(dtype, atol, words, biased, softcap, monkeypatch):
    monkeypatch.setattr(head_kernel, "BLOCK", 64)
    logits, bias, targets = case(words, dtype)
    given = logits, bias if biased else None, targets, softcap
    for one, other in zip(found(*given, dtype), expected(*given), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=0, atol=atol)


def test_the_residual_takes_the_place_of_the_logits_or_is_rounded_or_left_out():
    logits, _, targets = case(100, torch.float32)
    truth = expected(logits, None, targets, None)[2]
    options = {"bias": None, "softcap": None, "temperature": TEMPERATURE, "entropy": False}
    kept = logits.clone()
    assert head_kernel.fused_rows(kept, targets, residual=None, **options)[1:] == (None, None)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    rounded = head_kernel.fused_rows(kept, targets, residual=torch.bfloat16, **options)[2]
    torch.testing.assert_close(rounded, truth.bfloat16(), rtol=2**-7, atol=1e-7)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    placed = head_kernel.fused_rows(kept, targets, residual=torch.float32, **options)[2]
    assert placed.data_ptr() == kept.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_logits_and_impossible_words_give_no_nan(dtype, monkeypatch):
    monkeypatch.setattr(head_kernel, "BLOCK", 64)
    logits, bias, targets = case(200, dtype, spread=1e4)
    bias[:70] = -torch.inf  # the whole of the first block
    targets = targets.clamp(min=70)
    for one, other in zip(
        found(logits, bias, targets, None, dtype),
        expected(logits, bias, targets, None),
        strict=True,
    ):
        # The plain entropy has NaN where a word is impossible: 0 times -inf.
        other = other if other.isfinite().all() else torch.zeros_like(other)
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-3)


def test_an_impossible_target_is_minus_infinity_and_its_residual_finite():
    logits, bias, targets = case(100, torch.float32)
    bias[targets] = -torch.inf
    logprobs, entropies, residual = found(logits, bias, targets, None, torch.float32)
    assert (logprobs == -torch.inf).all()
    assert entropies.isfinite().all()
    assert residual.isfinite().all()


def test_a_target_outside_the_vocabulary_is_nan():
    logits, _, targets = case(100, torch.float32)
    targets[1], targets[3] = 100, -1
    logprobs = found(logits, None, targets, None, None)[0]
    assert logprobs.isnan().tolist() == [False, True, False, True, False]


def heads(dtype=torch.float64):
    """Hidden states, head and bias, and the batch of a GSPO loss; one sequence is long."""
    draw = torch.Generator().manual_seed(1)
    inputs = [torch.randn(k, 6, generator=draw, dtype=torch.float64) for k in (30, 23)]
    inputs.append(torch.randn(23, generator=draw, dtype=torch.float64))
    batch = {
        "targets": torch.randint(23, (30,), generator=draw),
        "advantages": torch.randn(4, generator=draw, dtype=torch.float64),
        "lengths": torch.tensor([3, 0, 20, 7]),
    }
    with torch.no_grad():
        now = linear_logprobs(*inputs[:2], batch["targets"], bias=inputs[2])
    return [x.to(dtype) for x in inputs], batch | {"old_logprobs": now}


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_head_with_the_kernel_is_the_head_with_the_passes_of_pytorch(softcap, monkeypatch):
    inputs, batch = heads()
    options = {"softcap": softcap, "temperature": TEMPERATURE, "chunk_size": 8}
    results = []
    for kernel in (None, head_kernel.fused_rows):
        monkeypatch.setattr(head_chunk, "kernel_on", lambda _, kernel=kernel: kernel)
        leaves = [x.clone().requires_grad_() for x in inputs]
        wide = {"clip_low": 0.02, "clip_high": 0.02}
        hidden, weight, bias = leaves
        loss = linear_gspo_loss(hidden, weight, bias=bias, **batch, **options, **wide)[0]
        given = (hidden, weight, batch["targets"])
        logprobs, entropy = linear_logprobs(*given, bias=bias, return_entropy=True, **options)
        (loss + (logprobs * batch["old_logprobs"]).sum()).backward()
        results.append([loss.detach(), entropy, *(x.grad for x in leaves)])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)
