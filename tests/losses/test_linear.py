"""The GSPO loss of a linear head in one pass, against the whole log-softmax and `gspo_loss`."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import (
    gmpo_loss,
    grpo_loss,
    gspo_token_loss,
    linear_gspo_loss,
    linear_sequence_loss,
    luspo_loss,
    reinforce_loss,
    sapo_loss,
    sequence_weights,
    vespo_loss,
)
from oracles.heads import LENGTHS, WIDE, case, evaluate, now, ours, plain


@pytest.mark.parametrize("options", [{}, {"temperature": 0.6}, {"temperature": 2, "softcap": 1.5}])
@pytest.mark.parametrize("on_policy", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 2, 7, 17, 71, None])
def test_loss_metrics_and_gradients_are_those_of_the_plain_expression(
    chunk_size, on_policy, options
):
    inputs, batch = case(**options)
    if on_policy:
        batch["old_logprobs"] = None
    expected = evaluate(plain, inputs, batch, **options, **WIDE)
    found = evaluate(ours, inputs, batch, **options, **WIDE, chunk_size=chunk_size)
    assert expected[2][1].abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_case_has_sequences_that_are_clipped_and_some_that_are_not():
    inputs, batch = case()
    metrics = plain(*inputs, batch, **WIDE)[1]
    assert 0.1 < metrics["clip/seq"] < 0.9
    assert metrics["clip/seq_low"] > 0 < metrics["clip/seq_high"]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    chunk_size=st.integers(1, 30),
    seed=st.integers(0, 2**16),
    upstream=st.floats(-3, 3),
    on_policy=st.booleans(),
)
def test_neither_lengths_nor_chunks_change_the_result(
    lengths, chunk_size, seed, upstream, on_policy
):
    inputs, batch = case(lengths, seed=seed, d=3, v=5)
    if on_policy:
        batch["old_logprobs"] = None
    batch["weights"] = torch.rand(len(lengths), dtype=torch.float64)
    expected = evaluate(plain, inputs, batch, upstream, **WIDE)
    found = evaluate(ours, inputs, batch, upstream, **WIDE, chunk_size=chunk_size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("chunk_size", [4, None])
def test_the_gradient_is_that_of_finite_differences(chunk_size):
    inputs, batch = case([3, 6, 2], d=3, v=5, moved=0.001)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(
        lambda *x: ours(*x, batch, **WIDE, chunk_size=chunk_size)[0], leaves
    )


@pytest.mark.parametrize("chunk_size", [5, None])
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (1, 2), (0, 1)])
def test_a_frozen_input_gets_no_gradient_and_the_others_keep_theirs(frozen, chunk_size):
    inputs, batch = case()
    expected = evaluate(plain, inputs, batch, **WIDE)[2]
    leaves = [x.requires_grad_(place not in frozen) for place, x in enumerate(inputs)]
    ours(*leaves, batch, **WIDE, chunk_size=chunk_size)[0].backward()
    for place, leaf in enumerate(leaves):
        if place in frozen:
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, expected[place], rtol=0, atol=1e-12)


def test_a_head_without_bias_and_the_graph_walked_twice():
    (hidden, weight, _), batch = case()
    leaves = [hidden.requires_grad_(), weight.requires_grad_()]
    expected = torch.autograd.grad(plain(*leaves, None, batch)[0], leaves)
    loss = ours(*leaves, None, batch, chunk_size=8)[0]
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    torch.testing.assert_close(first, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), first, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["token_mean", "seq_sum"])
@pytest.mark.parametrize("cut", [0, 3, 7])
def test_micro_batches_add_up_to_the_step(reduction, cut):
    (hidden, weight, bias), batch = case()
    batch["weights"] = sequence_weights(batch["lengths"], reduction)
    expected = evaluate(plain, (hidden, weight, bias), batch, **WIDE)
    at = int(batch["lengths"][:cut].sum())
    total = 0
    for tokens, rows in ((slice(at), slice(cut)), (slice(at, None), slice(cut, None))):
        part = {k: batch[k][rows] for k in ("advantages", "lengths", "weights")}
        part |= {k: batch[k][tokens] for k in ("targets", "old_logprobs")}
        total += evaluate(ours, (hidden[tokens], weight, bias), part, **WIDE, chunk_size=6)[2][1]
    torch.testing.assert_close(total, expected[2][1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [16, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_no_further_from_float64_than_the_plain_expression(dtype, chunk_size):
    lengths = [40, 30, 7, 60, 25, 38]
    inputs, batch = case(lengths, d=32, v=300, dtype=dtype, moved=0.0)
    # Away from the clip bounds and the ends of the softmax, where a rounding decides everything.
    inputs[0] *= 0.3
    wide = {"clip_low": 0.02, "clip_high": 0.02}
    batch["old_logprobs"] = now(*(x.double() for x in inputs), batch["targets"])
    truth = evaluate(plain, [x.double() for x in inputs], batch, **wide)
    theirs = evaluate(plain, inputs, batch, **wide)
    found = evaluate(ours, inputs, batch, **wide, chunk_size=chunk_size)
    for mine, other, exact in zip(
        [found[0], *found[2]], [theirs[0], *theirs[2]], [truth[0], *truth[2]], strict=True
    ):
        # A tenth more: where both round alike, which of them is nearer is chance.
        limit = 1.1 * (other.double() - exact).norm() + 1e-6 * exact.norm()
        assert (mine.double() - exact).norm() <= limit


@pytest.mark.parametrize("moved", [100.0, -100.0])
@pytest.mark.parametrize("chunk_size", [7, None])
def test_extreme_log_ratios_give_finite_losses_and_the_gradients_of_the_plain_expression(
    moved, chunk_size
):
    inputs, batch = case()
    batch["old_logprobs"] = batch["old_logprobs"] + moved
    expected = evaluate(plain, inputs, batch)
    found = evaluate(ours, inputs, batch, chunk_size=chunk_size)
    assert all(x.isfinite().all() for x in (found[0], *found[2]))
    scale = max(1.0, float(expected[0].abs()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_a_batch_without_tokens_has_loss_zero_and_gradient_zero(lengths):
    inputs, batch = case(lengths)
    loss, _, gradients = evaluate(ours, inputs, batch)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients)


def test_luspo_is_gspo_with_the_weights_of_seq_sum():
    inputs, batch = case()
    logprobs = now(*inputs, batch["targets"])
    parts = (logprobs - batch["old_logprobs"]).split(LENGTHS)
    expected = 0.0
    for part, advantage in zip(parts, batch["advantages"].tolist(), strict=True):
        if len(part):
            ratio = math.exp(part.mean())
            clipped = min(max(ratio, 0.99), 1.01)
            expected -= len(part) * min(ratio * advantage, clipped * advantage) / 6
    batch["weights"] = sequence_weights(batch["lengths"], "seq_sum")
    assert ours(*inputs, batch, **WIDE)[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunk_size", [6, None])
@pytest.mark.parametrize(
    "loss",
    [luspo_loss, vespo_loss, reinforce_loss, gspo_token_loss, grpo_loss, sapo_loss, gmpo_loss],
)
def test_any_loss_that_is_a_sum_over_sequences_gets_its_gradient(loss, chunk_size):
    inputs, batch = case()
    batch["weights"] = torch.rand(len(LENGTHS), dtype=torch.float64)
    expected = evaluate(plain, inputs, batch, loss=loss)

    def one_pass(hidden, weight, bias, batch):
        options = {k: batch[k] for k in ("advantages", "lengths", "weights")}
        given = (hidden, weight, batch["targets"], batch["old_logprobs"])
        return linear_sequence_loss(loss, *given, **options, bias=bias, chunk_size=chunk_size)

    torch.testing.assert_close(evaluate(one_pass, inputs, batch), expected, rtol=0, atol=1e-12)


def test_autocast_casts_both_factors():
    inputs, batch = case(dtype=torch.float32)
    low = [inputs[0].bfloat16(), inputs[1].bfloat16(), inputs[2]]
    expected = evaluate(ours, low, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(ours, inputs, batch)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    assert {x.dtype for x in found[2]} == {torch.float32}


def test_log_probabilities_are_those_of_the_chunked_head_to_the_bit():
    inputs, batch = case(dtype=torch.float32)
    batch["old_logprobs"] = linear_logprobs(*inputs[:2], batch["targets"], bias=inputs[2])
    metrics = ours(*inputs, batch)[1]
    assert metrics["ratio/min"] == metrics["ratio/max"] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"old_logprobs": torch.zeros(3)}, ValueError, r"\(3,\), should have one shape"),
        ({"advantages": torch.zeros(2)}, ValueError, "advantages has shape"),
        ({"weights": torch.zeros(2)}, ValueError, "weights has shape"),
        ({"lengths": torch.tensor([3])}, ValueError, "lengths sum to 3"),
        ({"lengths": torch.tensor([71.0])}, TypeError, "make it int64"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, ValueError, r"targets \(n,\)"),
        ({"softcap": 0.0}, ValueError, "softcap is 0.0"),
        ({"temperature": -1.0}, ValueError, "temperature is -1.0"),
        ({"chunk_size": 0}, ValueError, "chunk_size is 0"),
        ({"clip_low": -0.1}, ValueError, "clip_low=-0.1"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    (hidden, weight, bias), batch = case()
    with pytest.raises(error, match=message):
        linear_gspo_loss(hidden, weight, **{"bias": bias, **batch, **change})
