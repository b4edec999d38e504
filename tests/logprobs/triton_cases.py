"""The Triton kernel against float64; `test_head_kernel.py` runs this in Triton's interpreter."""

import pytest
import torch

from gspo_rs.logprobs import chunk, triton_kernel
from gspo_rs.logprobs.linear import linear_logprobs, linear_logprobs_and_entropy
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
    return triton_kernel.fused_rows(
        logits.clone(), targets, bias=bias, residual=residual, entropy=entropy, **options
    )


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("words", [1, 7, 64, 100, 513])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_a_row_is_that_of_float64(dtype, atol, words, biased, softcap, monkeypatch):
    monkeypatch.setattr(triton_kernel, "BLOCK", 64)
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
    assert triton_kernel.fused_rows(kept, targets, residual=None, **options)[1:] == (None, None)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    rounded = triton_kernel.fused_rows(kept, targets, residual=torch.bfloat16, **options)[2]
    torch.testing.assert_close(rounded, truth.bfloat16(), rtol=2**-7, atol=1e-7)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    placed = triton_kernel.fused_rows(kept, targets, residual=torch.float32, **options)[2]
    assert placed.data_ptr() == kept.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_logits_and_impossible_words_give_no_nan(dtype, monkeypatch):
    monkeypatch.setattr(triton_kernel, "BLOCK", 64)
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
    for kernel in (None, triton_kernel.fused_rows):
        monkeypatch.setattr(chunk, "kernel_on", lambda _, kernel=kernel: kernel)
        leaves = [x.clone().requires_grad_() for x in inputs]
        wide = {"clip_low": 0.02, "clip_high": 0.02}
        hidden, weight, bias = leaves
        loss = linear_gspo_loss(hidden, weight, bias=bias, **batch, **options, **wide)[0]
        given = (hidden, weight, batch["targets"])
        logprobs, entropy = linear_logprobs_and_entropy(*given, bias=bias, **options)
        (loss + (logprobs * batch["old_logprobs"]).sum()).backward()
        results.append([loss.detach(), entropy, *(x.grad for x in leaves)])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


STRIDED = {
    "columns": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "transposed": lambda x: x.T.contiguous().T,
    "a part of wider rows": lambda x: torch.cat([x, x], dim=-1)[..., : x.shape[-1]],
    "every other row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "one row for all": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", STRIDED)
def test_logits_that_are_not_contiguous_are_refused_and_left_as_they_are(layout):
    logits, bias, targets = case(7, torch.float32)
    given = STRIDED[layout](logits)
    before = given.clone()
    options = {"softcap": None, "temperature": 1.0, "entropy": True, "residual": torch.float32}
    with pytest.raises(ValueError, match=r"logits of shape .* has strides .* not contiguous"):
        triton_kernel.fused_rows(given, targets, bias=bias, **options)
    torch.testing.assert_close(given, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("targets", lambda x: x.repeat_interleave(2)[::2], ValueError, "targets .* contiguous"),
        ("bias", lambda x: x.repeat_interleave(2)[::2], ValueError, "bias .* contiguous"),
        ("bias", lambda x: x[:1].expand(7), ValueError, "bias .* contiguous"),
        ("targets", lambda x: x.int(), TypeError, r"targets is torch\.int32"),
        ("targets", lambda x: x[:4], ValueError, r"targets has shape \(4,\); expected \(5,\)"),
        ("bias", lambda x: x[:6], ValueError, r"bias has shape \(6,\); expected \(7,\)"),
        ("logits", lambda x: x.half(), TypeError, r"logits is torch\.float16"),
        ("logits", lambda x: x[0], ValueError, r"logits have shape \(7,\)"),
        ("targets", lambda x: x.to("meta"), ValueError, "targets is on meta"),
        ("bias", lambda x: x.to("meta"), ValueError, "bias is on meta"),
    ],
)
def test_what_the_kernel_would_read_wrongly_is_refused_by_name(name, change, error, message):
    given = dict(zip(("logits", "bias", "targets"), case(7, torch.float32), strict=True))
    given[name] = change(given[name])
    options = {"softcap": None, "temperature": 1.0, "entropy": False, "residual": None}
    with pytest.raises(error, match=message):
        triton_kernel.fused_rows(**given, **options)


def test_a_head_with_strided_inputs_is_that_of_contiguous_ones(monkeypatch):
    monkeypatch.setattr(chunk, "kernel_on", lambda _: triton_kernel.fused_rows)
    (hidden, weight, bias), batch = heads()
    apart = (STRIDED["columns"](x) for x in (hidden, weight, bias, batch["targets"]))
    found, straight = [], (hidden, weight, bias, batch["targets"])
    for x, w, b, targets in (straight, apart):
        leaves = [y.detach().requires_grad_() for y in (x, w, b)]
        given = leaves[0], leaves[1], targets
        logprobs, entropy = linear_logprobs_and_entropy(*given, bias=leaves[2])
        gradients = torch.autograd.grad(logprobs.square().sum(), leaves)
        found.append([logprobs.detach(), entropy, *gradients])
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
