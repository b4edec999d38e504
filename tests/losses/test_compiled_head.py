"""The losses of a linear head, and its log-probabilities, under `torch.compile`: in one graph."""

from functools import partial

import pytest
import torch

from gspo_rs.logprobs.linear import linear_logprobs, linear_logprobs_and_entropy
from gspo_rs.logprobs.operation import logprobs_operation
from gspo_rs.losses import (
    grpo_loss,
    gspo_token_loss,
    linear_gspo_loss,
    linear_sequence_loss,
    luspo_loss,
    vespo_loss,
)
from oracles.heads import case

SCALED = {"temperature": 0.6, "softcap": 1.5, "chunk_size": 7}


def of_gspo(hidden, weight, bias, batch, **options):
    return linear_gspo_loss(hidden, weight, **batch, bias=bias, **options)


def of_sequences(loss, hidden, weight, bias, batch, **options):
    return linear_sequence_loss(loss, hidden, weight, **batch, bias=bias, **options)


def gradients(function, inputs):
    """Value, gradients of what is asked one, and metrics."""
    leaves = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    value, metrics = function(*leaves)
    assert not any(x.requires_grad for x in metrics.values())
    asked = [x for x in leaves if x.requires_grad]
    return value.detach(), torch.autograd.grad(3 * value, asked), metrics


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("on_policy", [False, True])
@pytest.mark.parametrize(
    "loss_of",
    [
        partial(of_gspo, clip_low=0.01, clip_high=0.015, **SCALED),
        partial(of_gspo),
        partial(of_sequences, partial(grpo_loss, clip_low=0.1), **SCALED),
        partial(of_sequences, gspo_token_loss),
        partial(of_sequences, luspo_loss),
        partial(of_sequences, vespo_loss),
    ],
)
def test_a_loss_of_the_head_compiles_into_one_graph_with_the_same_gradients(
    loss_of, on_policy, dtype
):
    inputs, batch = case()
    inputs = [x.to(dtype).requires_grad_() for x in inputs]
    batch = {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}
    if on_policy:
        batch["old_logprobs"] = None
    torch._dynamo.reset()
    called = partial(loss_of, batch=batch)
    compiled = torch.compile(called, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, inputs), gradients(called, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("asked", [(True, False, False), (False, True, True)])
def test_a_compiled_head_gives_gradients_only_where_they_are_asked(asked):
    inputs, batch = case()
    inputs = [x.detach().requires_grad_(needed) for x, needed in zip(inputs, asked, strict=True)]
    torch._dynamo.reset()
    called = partial(of_gspo, batch=batch)
    compiled = torch.compile(called, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, inputs), gradients(called, inputs))


@pytest.mark.slow
def test_a_compiled_head_has_the_entropies_and_the_gradients_under_autocast():
    (hidden, weight, bias), batch = case()

    def called(hidden, weight, bias):
        with torch.autocast("cpu", torch.bfloat16):
            logprobs, entropy = linear_logprobs_and_entropy(
                hidden, weight, batch["targets"], bias=bias, **SCALED
            )
        return logprobs.square().sum(), {"entropy": entropy}

    inputs = [x.detach().float().requires_grad_() for x in (hidden, weight, bias)]
    torch._dynamo.reset()
    compiled = torch.compile(called, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, inputs), gradients(called, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 30])
def test_the_operation_of_the_head_is_what_pytorch_expects_of_an_operation(n):
    draw = torch.Generator().manual_seed(n)
    hidden, weight, bias = (
        torch.randn(*shape, generator=draw).requires_grad_() for shape in ((n, 4), (11, 4), (11,))
    )
    given = hidden, weight, bias, torch.randint(11, (n,), generator=draw)
    asked = {"temperature": 0.7, "softcap": None, "chunk_size": None, "dtype": torch.float32}
    for entropy in (False, True):
        torch.library.opcheck(logprobs_operation, given, asked | {"entropy": entropy})


@pytest.mark.slow
def test_a_compiled_head_refuses_what_the_head_refuses():
    (hidden, weight, _), batch = case()
    torch._dynamo.reset()
    # With `fullgraph` PyTorch says that what it traced raised something, and quotes it.
    compiled = torch.compile(linear_logprobs, backend="aot_eager")
    with pytest.raises(ValueError, match="temperature is 0"):
        compiled(hidden, weight, batch["targets"], temperature=0.0)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        compiled(hidden, weight, batch["targets"], chunk_size=0)
    with pytest.raises(ValueError, match=r"expected hidden \(n, D\)"):
        compiled(hidden[:-1], weight, batch["targets"])
