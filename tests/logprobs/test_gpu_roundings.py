"""Heads in low precision, multiplied as on a GPU: what their gradients lose, against float64."""

import pytest
import torch

from gspo_rs.logprobs import head
from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import gspo_loss
from oracles.emulated_gpu import emulated
from oracles.heads import case, evaluate, now, ours, plain

LENGTHS = [40, 0, 7, 25]
CLIP = {"clip_low": 0.02, "clip_high": 0.02}


def drawn(dtype, seed):
    """A batch whose old policy is the present one, so that no rounding decides on a clip."""
    inputs, batch = case(LENGTHS, seed=seed, d=64, v=300, dtype=dtype, moved=0.0)
    inputs[0] *= 0.3
    batch["old_logprobs"] = now(*(x.double() for x in inputs), batch["targets"])
    return inputs, batch


def distances(found, expected):
    return [
        float((x.double() - y).norm() / y.norm())
        for x, y in zip(found[2], expected[2], strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(8))
def test_gradients_are_as_near_to_float64_as_those_of_the_plain_expression(seed, dtype):
    inputs, batch = drawn(dtype, seed)
    truth = evaluate(plain, [x.double() for x in inputs], batch, **CLIP)
    theirs = distances(evaluate(plain, inputs, batch, **CLIP), truth)
    for chunk_size in (None, 16):
        with emulated():
            found = evaluate(ours, inputs, batch, **CLIP, chunk_size=chunk_size)
        for mine, other in zip(distances(found, truth), theirs, strict=True):
            assert mine <= 1.1 * other


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("recomputed", [False, True])
def test_under_autocast_a_float32_parameter_gets_the_sums_unrounded(recomputed, softcap):
    inputs, batch = drawn(torch.bfloat16, seed=3)
    masters = [x.float() for x in inputs]
    scaling = {"softcap": softcap, "temperature": 0.7}

    def through_logprobs(hidden, weight, bias, batch, **_):
        found = linear_logprobs(
            hidden, weight, batch["targets"], bias=bias, **scaling, chunk_size=16
        )
        return -(found * batch["old_logprobs"].exp()).sum(), {}

    def exactly(hidden, weight, bias, batch, **_):
        found = now(hidden, weight, bias, batch["targets"], **scaling)
        return -(found * batch["old_logprobs"].exp()).sum(), {}

    if recomputed:
        function, oracle, options = through_logprobs, exactly, {}
    else:
        function, oracle, options = ours, plain, {**CLIP, **scaling}
        batch["old_logprobs"] = now(*(x.double() for x in inputs), batch["targets"], **scaling)
    truth = evaluate(oracle, [x.double() for x in inputs], batch, **options)
    with emulated(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(function, masters, batch, **options)
    assert {x.dtype for x in found[2]} == {torch.float32}
    assert max(distances(found, truth)) < 1.2e-3
    assert all((x != x.bfloat16()).double().mean() > 0.9 for x in found[2])


@pytest.mark.parametrize("at_once", [5, 2048])
@pytest.mark.parametrize("chunk_size", [8, 30, None])
def test_neither_chunks_nor_the_logits_held_at_once_change_the_result(
    chunk_size, at_once, monkeypatch
):
    monkeypatch.setattr(head, "GPU_AT_ONCE", at_once)
    inputs, batch = drawn(torch.bfloat16, seed=4)
    masters = [x.float() for x in inputs]
    with emulated(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = evaluate(ours, masters, batch, **CLIP)
        found = evaluate(ours, masters, batch, **CLIP, chunk_size=chunk_size)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-6)
    assert max(distances(found, [None, None, [x.double() for x in expected[2]]])) < 6e-4


@pytest.mark.parametrize("chunk_size", [None, 16])
@pytest.mark.parametrize("recomputed", [False, True])
def test_float16_gradients_of_a_scaled_loss_have_their_digits(recomputed, chunk_size):
    # Weights of half a million tokens, and the scale that a GradScaler begins with.
    inputs, batch = drawn(torch.float16, seed=5)
    batch["weights"] = torch.full((len(LENGTHS),), 1 / 512_000, dtype=torch.float64)
    truth = evaluate(plain, [x.double() for x in inputs], batch, 65536.0, **CLIP)

    def through_logprobs(hidden, weight, bias, batch, **clip):
        options = {"bias": bias, "chunk_size": chunk_size}
        logprobs = linear_logprobs(hidden, weight, batch["targets"], **options)
        given = (batch["old_logprobs"], batch["advantages"], None, batch["weights"])
        return gspo_loss(logprobs, *given, lengths=batch["lengths"], **clip)

    function = through_logprobs if recomputed else ours
    options = CLIP if recomputed else {**CLIP, "chunk_size": chunk_size}
    with emulated():
        found = evaluate(function, inputs, batch, 65536.0, **options)
    assert max(distances(found, truth)) < 1.2e-3
