"""Exponentials in the product against float64, in Triton's interpreter or on a GPU."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fixtures.triton_device import DEVICE, HALF, grid, kernels, recorded
from gspo_rs.logprobs import launch
from gspo_rs.logprobs.kernels import exponentials
from gspo_rs.logprobs.rows import Rows, matrix
from oracles.emulated_gpu import emulated
from oracles.heads import case, evaluate, ours, plain

KERNELS = kernels()
TEMPERATURE = 0.7


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(exponentials, "TILE", (8, 16, 16))
    monkeypatch.setattr(exponentials, "AGAIN", (16, 16))
    monkeypatch.setattr(exponentials, "GROUP", 2)


def drawn(tokens, words, columns):
    draw = torch.Generator().manual_seed(tokens + words + columns)
    hidden, weight = (torch.randn(k, columns, generator=draw) for k in (tokens, words))
    targets = torch.randint(words, (tokens,), generator=draw)
    return hidden.to(DEVICE, torch.bfloat16), weight.to(DEVICE, torch.bfloat16), targets.to(DEVICE)


def expected(hidden, weight, targets):
    """Log-probabilities, entropies and minus the gradient for the logits, in float64."""
    leaf = (hidden.double() @ weight.double().T).requires_grad_()
    dist = torch.distributions.Categorical(logits=leaf / TEMPERATURE)
    logprobs = dist.log_prob(targets)
    logprobs.sum().backward()
    return logprobs.detach(), dist.entropy().detach(), leaf.grad


def called(hidden, weight, targets, near, *, entropy=True):
    like = torch.empty(0, device=DEVICE)
    residual = matrix(len(hidden), len(weight), like, torch.bfloat16).fill_(7.0)
    out = Rows.like(like, len(hidden), entropy=entropy).with_residual(residual)
    given = {"near": near, "temperature": TEMPERATURE}
    KERNELS.exponential_rows(hidden, weight, targets, out, **given)
    return out


def assembled(out, targets):
    whole = out.residual.double()
    assert not whole.gather(1, targets[:, None]).any()
    whole *= out.factors.double()[:, None]
    return whole.scatter(1, targets[:, None], out.own.double()[:, None])


SHAPES = [(1, 1, 1), (5, 40, 20), (10, 33, 16), (9, 64, 48)]
DRIFTS = [0.0, 1.0, -10.0, 59.0, 1e3, -1e3, math.inf, math.nan]


@pytest.mark.parametrize(("shape", "drift"), grid(9, SHAPES, DRIFTS))
def test_rows_are_those_of_float64_whatever_another_policy_says_of_them(shape, drift):
    given = drawn(*shape)
    logprobs, entropies, gradient = expected(*given)
    near = (logprobs + drift).float()
    out = called(*given, near)
    atol = 1e-5 + (abs(drift) * 2**-21 if abs(drift) < 60 else 0)
    torch.testing.assert_close(out.logprobs.double(), logprobs, rtol=1e-6, atol=atol)
    torch.testing.assert_close(out.entropy.double(), entropies, rtol=1e-6, atol=2 * atol)
    found = assembled(out, given[2])
    torch.testing.assert_close(found, gradient, rtol=1.1 * HALF[torch.bfloat16], atol=1e-5)
    alone = called(*given, near, entropy=False)
    assert alone.entropy is None
    assert torch.equal(alone.residual, out.residual)


def test_a_target_outside_the_vocabulary_is_nan_and_disturbs_no_other():
    hidden, weight, targets = drawn(6, 40, 20)
    near = expected(hidden, weight, targets)[0].float()
    whole = called(hidden, weight, targets, near)
    targets[3], targets[4] = -1, 40
    out = called(hidden, weight, targets, near)
    assert out.logprobs.isnan().tolist() == [False, False, False, True, True, False]
    assert out.own.isnan().tolist() == [False, False, False, True, True, False]
    others = [0, 1, 2, 5]
    assert torch.equal(out.residual[others], whole.residual[others])


@pytest.mark.parametrize("chunk_size", [8])
def test_the_loss_with_exponentials_in_the_product_has_the_gradients_of_the_plain_one(
    chunk_size, monkeypatch
):
    monkeypatch.setattr(launch, "EXPONENTIAL_IN_PRODUCT", True)
    inputs, batch = case([3, 0, 9, 1, 17, 6], d=20, v=101, dtype=torch.bfloat16, moved=0.0)
    hidden, weight, _ = inputs
    batch["old_logprobs"] = expected_old(hidden, weight, batch["targets"])
    clip = {"clip_low": 0.02, "clip_high": 0.02}
    exact = evaluate(plain, [hidden.double(), weight.double(), None], batch, **clip)[2]
    calls, kernel = [], KERNELS.exponential_rows
    counted = {"exponential_rows": lambda *given, **more: calls.append(kernel(*given, **more))}
    with emulated(launch.Kernels(**(vars(KERNELS) | counted))):
        found = evaluate(ours, [hidden, weight, None], batch, chunk_size=chunk_size, **clip)[2]
    assert calls
    for mine, other in zip(found, exact, strict=True):
        assert (mine.double() - other).norm() < 2 * HALF[torch.bfloat16] * other.norm()


def expected_old(hidden, weight, targets):
    logits = hidden.double() @ weight.double().T
    return logits.log_softmax(1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("hidden", lambda x: x.float(), TypeError, r"hidden is torch\.float32"),
        ("weight", lambda x: x.T.contiguous().T, ValueError, "weight .* contiguous"),
        ("targets", lambda x: x.int(), TypeError, r"targets is torch\.int32"),
        ("near", lambda x: x[:4], ValueError, r"near has shape \(4,\); expected \(5,\)"),
    ],
)
def test_what_the_kernels_would_read_wrongly_is_refused_by_name(name, change, error, message):
    hidden, weight, targets = drawn(5, 40, 20)
    given = {"hidden": hidden, "weight": weight, "targets": targets}
    given["near"] = torch.zeros(5, device=DEVICE)
    given[name] = change(given[name])
    with pytest.raises(error, match=message):
        called(**given)


def test_the_kernels_are_launched_on_the_gpu_that_their_tensors_are_on(monkeypatch):
    names = ("_target_kernel", "_product_kernel", "_finish_kernel")
    current, launched = recorded(monkeypatch, *((exponentials, name) for name in names))
    with FakeTensorMode():
        hidden, weight = (torch.empty(k, 8, dtype=torch.bfloat16, device="cuda:1") for k in (5, 40))
        near, targets = (torch.empty(5, dtype=x, device="cuda:1") for x in (None, torch.int64))
        out = Rows.like(near, 5).with_residual(torch.empty_like(weight).new_empty(5, 40))
        exponentials.exponential_rows(hidden, weight, targets, out, near=near, temperature=1.0)
    assert launched == [((5,), "cuda:1"), ((3,), "cuda:1"), ((5,), "cuda:1")]
    assert current == ["cuda:0"]
