"""The Triton kernel against float64, in Triton's interpreter or on a GPU: see its test."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fixtures.triton_device import DEVICE, HALF, grid, kernels, recorded
from gspo_rs.logprobs import launch
from gspo_rs.logprobs.kernels import rows as row_kernel
from gspo_rs.logprobs.linear import linear_logprobs, linear_logprobs_and_entropy
from gspo_rs.logprobs.rows import Rows, matrix
from gspo_rs.losses import linear_gspo_loss

TEMPERATURE = 0.7
DRIFTS = [None, 0.0, 1e-3, 1.0, -10.0, 59.0, 1e3, -1e3, math.inf, math.nan]
PRECISION = [(torch.float64, 1e-12), (torch.float32, 3e-6)]


def case(words, dtype, spread=2.0):
    draw = torch.Generator().manual_seed(words)
    logits = torch.randn(5, words, generator=draw, dtype=torch.float64) * spread
    bias = torch.randn(words, generator=draw, dtype=torch.float64)
    targets = torch.randint(words, (5,), generator=draw)
    return logits.to(DEVICE, dtype), bias.to(DEVICE, dtype), targets.to(DEVICE)


def expected(logits, bias, targets, softcap):
    """Log-probabilities, entropies and minus the gradient for the logits, by autograd."""
    leaf = logits.double().requires_grad_()
    z = leaf if bias is None else leaf + bias.double()
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    dist = torch.distributions.Categorical(logits=z / TEMPERATURE, validate_args=False)
    logprobs = dist.log_prob(targets)
    logprobs.sum().backward()
    return logprobs.detach(), dist.entropy().detach(), -leaf.grad * TEMPERATURE


def called(logits, bias, targets, softcap, residual, *, near=None, entropy=True):
    """What the kernel makes of logits, whose place a residual of their dtype takes."""
    out = Rows.like(logits, len(logits), entropy=entropy)
    if residual == logits.dtype:
        out = out.with_residual(logits)
    elif residual is not None:
        out = out.with_residual(matrix(*logits.shape, logits, residual))
    options = {"bias": bias, "softcap": softcap, "temperature": TEMPERATURE, "near": near}
    row_kernel.fused_rows(logits, targets, out, **options)
    return out


def found(logits, bias, targets, softcap, residual):
    """Log-probabilities, entropies and the whole residual."""
    out = called(logits.clone(), bias, targets, softcap, residual)
    return out.logprobs, out.entropy, out.residual


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("words", [1, 7, 64, 100, 513])
@pytest.mark.parametrize(("dtype", "atol"), PRECISION)
def test_a_row_is_that_of_float64(dtype, atol, words, biased, softcap, monkeypatch):
    monkeypatch.setattr(row_kernel, "BLOCK", 64)
    logits, bias, targets = case(words, dtype)
    given = logits, bias if biased else None, targets, softcap
    for one, other in zip(found(*given, dtype), expected(*given), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other, rtol=0, atol=atol)


@pytest.mark.parametrize("softcap", [None, 1e6, 20.0])
@pytest.mark.parametrize(("dtype", "atol"), PRECISION)
def test_a_vocabulary_of_several_whole_blocks_and_one_word_is_that_of_float64(dtype, atol, softcap):
    given = case(2 * row_kernel.BLOCK + 1, dtype)
    for one, other in zip(found(*given, softcap, dtype), expected(*given, softcap), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2 * atol)


@pytest.mark.parametrize("softcap", [1e3, 1e6, 1e9])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_a_soft_cap_far_above_the_logits_costs_no_digits(dtype, rtol, softcap):
    # Two words: the log-probability of the first is minus the second's logit, but for 1e-9.
    logits = torch.linspace(25, 40, 30, dtype=torch.float64)[:, None] * torch.tensor([0.0, 1.0])
    targets = torch.zeros(30, dtype=torch.int64, device=DEVICE)
    given = logits.to(DEVICE, dtype), None, targets, softcap
    torch.testing.assert_close(
        found(*given, None)[0].double(), expected(*given)[0], rtol=rtol, atol=0
    )


def test_temperature_and_soft_cap_have_the_digits_of_float64():
    # 0.7 and 3.1 are no float32: with them these would be off by 1e-8 of the logits.
    logits, bias, targets = case(100, torch.float64, spread=50.0)
    for softcap in (None, 3.1):
        given = logits, bias, targets, softcap
        one, other = found(*given, None)[0], expected(*given)[0]
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-13)


def test_the_residual_takes_the_place_of_the_logits_or_is_rounded_or_left_out():
    logits, _, targets = case(100, torch.float32)
    truth = expected(logits, None, targets, None)[2]
    kept, given = logits.clone(), (None, targets, None)
    without = called(kept, *given, None, entropy=False)
    assert (without.entropy, without.residual, without.own) == (None, None, None)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    rounded = assembled(called(kept, *given, torch.bfloat16), targets)
    torch.testing.assert_close(rounded, truth, rtol=2**-7, atol=1e-7)
    torch.testing.assert_close(kept, logits, rtol=0, atol=0)
    placed = called(kept, *given, torch.float32).residual
    assert placed.data_ptr() == kept.data_ptr()
    torch.testing.assert_close(placed.double(), truth, rtol=0, atol=1e-6)


def assembled(out, targets):
    """The residual in float64, put together of what is rounded and what is not."""
    whole = out.residual.double()
    assert not whole.gather(1, targets[:, None]).any()
    whole *= out.factors.double()[:, None]
    return -TEMPERATURE * whole.scatter(1, targets[:, None], out.own.double()[:, None])


NARROW = [torch.bfloat16, torch.float16]
CASES = grid(17, NARROW, DRIFTS, [1, 7, 64, 100, 513], [False, True], [None, 3.0])


@pytest.mark.parametrize(("dtype", "drift", "words", "biased", "softcap"), CASES)
def test_what_another_policy_says_of_a_row_changes_how_it_is_read_and_not_what_comes_out(
    dtype, drift, words, biased, softcap, monkeypatch
):
    monkeypatch.setattr(row_kernel, "BLOCK", 64)
    logits, bias, targets = case(words, torch.float32)
    given = logits, bias if biased else None, targets, softcap
    truth = expected(*given)
    near = None if drift is None else (truth[0] + drift).float()
    out = called(*given, dtype, near=near)
    # A drift is a factor of the row's sum, whose logarithm rounds by its size.
    # Beyond 60 nats the row is read as if nothing had been said of it.
    atol = 3e-6 + (abs(drift) * 2**-21 if drift and abs(drift) < 60 else 0)
    torch.testing.assert_close(out.logprobs.double(), truth[0], rtol=0, atol=atol)
    torch.testing.assert_close(out.entropy.double(), truth[1], rtol=0, atol=atol)
    own = -TEMPERATURE * out.own.double()
    torch.testing.assert_close(own, own_of(truth[2], targets), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(assembled(out, targets), truth[2], rtol=HALF[dtype], atol=1e-6)


def own_of(residual, targets):
    return residual.gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("odd", [1, 63, 65, 4097])
def test_rows_that_begin_at_even_places_are_read_and_written_to_their_end_alone(odd):
    logits, _, targets = case(odd, torch.float32)
    wide = torch.full((5, odd + 64 - odd % 64), torch.nan, device=DEVICE)
    wide[:, :odd] = logits
    space = torch.full_like(wide, 7.0, dtype=torch.bfloat16)[:, :odd]
    out = Rows.like(wide, 5, entropy=True).with_residual(space)
    options = {"bias": None, "softcap": None, "temperature": TEMPERATURE}
    truth = expected(logits, None, targets, None)
    for near in (None, truth[0].float()):
        row_kernel.fused_rows(wide[:, :odd], targets, out, near=near, **options)
        torch.testing.assert_close(out.logprobs.double(), truth[0], rtol=0, atol=3e-6)
        torch.testing.assert_close(
            assembled(out, targets), truth[2], rtol=HALF[torch.bfloat16], atol=1e-6
        )


def test_a_residual_in_the_place_of_some_columns_leaves_the_others_as_they_are():
    logits, _, targets = case(33, torch.float32)
    both = torch.cat([logits, logits], dim=1)
    placed = called(both[:, :33], None, targets, None, torch.float32).residual
    truth = expected(logits, None, targets, None)[2]
    torch.testing.assert_close(placed.double(), truth, rtol=0, atol=1e-6)
    torch.testing.assert_close(both[:, 33:], logits, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_logits_and_impossible_words_give_no_nan(dtype, monkeypatch):
    monkeypatch.setattr(row_kernel, "BLOCK", 64)
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
    for near in (None, torch.full((5,), -torch.inf), torch.zeros(5)):
        near = None if near is None else near.to(DEVICE)
        for dtype in (torch.float32, torch.bfloat16):
            out = called(logits.clone(), bias, targets, None, dtype, near=near)
            assert (out.logprobs == -torch.inf).all()
            assert out.entropy.isfinite().all()
            assert out.residual.isfinite().all()
            assert dtype == torch.float32 or (out.own * TEMPERATURE - 1).abs().max() < 1e-6


def test_a_target_outside_the_vocabulary_is_nan():
    logits, _, targets = case(100, torch.float32)
    targets[1], targets[3] = 100, -1
    for near in (None, torch.zeros(5, device=DEVICE)):
        out = called(logits, None, targets, None, torch.bfloat16, near=near)
        outside = [False, True, False, True, False]
        assert out.logprobs.isnan().tolist() == out.own.isnan().tolist() == outside


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
    batch |= {"old_logprobs": now}
    on_device = {name: x.to(DEVICE) for name, x in batch.items() if name != "lengths"}
    return [x.to(DEVICE, dtype) for x in inputs], batch | on_device


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_head_with_the_kernel_is_the_head_with_the_passes_of_pytorch(softcap, monkeypatch):
    inputs, batch = heads()
    options = {"softcap": softcap, "temperature": TEMPERATURE, "chunk_size": 8}
    results = []
    for found in (None, kernels()):
        monkeypatch.setattr(launch, "kernels_on", lambda _, found=found: found)
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
    "overlapping rows": lambda x: x.as_strided(x.shape, (1, 1)),
    "one row for all": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", STRIDED)
def test_logits_that_are_not_contiguous_are_refused_and_left_as_they_are(layout):
    logits, bias, targets = case(7, torch.float32)
    given = STRIDED[layout](logits)
    before = given.clone()
    with pytest.raises(ValueError, match=r"logits of shape .* has strides .* not contiguous"):
        called(given, bias, targets, None, torch.float32)
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
    out = Rows.like(torch.empty(0, device=DEVICE), 5)
    with pytest.raises(error, match=message):
        row_kernel.fused_rows(**given, out=out, softcap=None, temperature=1.0)


def test_a_head_with_strided_inputs_is_that_of_contiguous_ones(monkeypatch):
    monkeypatch.setattr(launch, "kernels_on", lambda _: kernels())
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


def test_the_kernel_is_launched_on_the_gpu_that_the_logits_are_on(monkeypatch):
    current, launched = recorded(monkeypatch, (row_kernel, "_row_kernel"))
    with FakeTensorMode():
        logits = torch.empty(5, 7, device="cuda:1")
        targets = torch.empty(5, dtype=torch.int64, device="cuda:1")
        called(logits, None, targets, None, torch.bfloat16)
    assert launched == [((5,), "cuda:1")]
    assert current == ["cuda:0"]


def test_after_the_launch_that_is_tried_there_are_all_kernels():
    assert launch._launched(torch.device(DEVICE)) == kernels()
