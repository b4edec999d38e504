"""What the head of a model costs: the matrix products that its losses take."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gspo_rs.logprobs.linear import linear_logprobs
from gspo_rs.losses import gspo_loss
from oracles.heads import LENGTHS, case, evaluate, ours, plain


class Products(TorchDispatchMode):
    """Counts the multiplications of all matrix products."""

    multiplications = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[-2:]
            self.multiplications += a.shape[0] * a.shape[1] * b.shape[1]
        assert name not in ("matmul", "bmm", "baddbmm"), "count these too"
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:clip_low=.* hardly ever clip:UserWarning")
# By chunks of 5, sequences of 17, 9 and 40 tokens have 15, 5 and 35 before their last chunk.
@pytest.mark.parametrize(("chunk_size", "again"), [(5, 55), (40, 0), (None, 0)])
def test_products_are_three_or_two_or_one_and_one_more_of_what_precedes_a_last_chunk(
    chunk_size, again
):
    inputs, batch = case(v=200)
    n, (v, d) = sum(LENGTHS), inputs[1].shape

    def products(*trained, without=torch.enable_grad):
        leaves = [x.detach().requires_grad_(k in trained) for k, x in enumerate(inputs[:2])]
        with Products() as count, without():
            options = {"chunk_size": chunk_size, "clip_low": 1.0, "clip_high": 1e9}
            loss = ours(*leaves, None, batch, **options)[0]
            if loss.requires_grad:
                loss.backward()
        return count.multiplications / (n * d * v)

    assert products(0, 1) == pytest.approx(3 + again / n, rel=1e-12)
    assert products(0) == products(1) == pytest.approx(2 + again / n, rel=1e-12)
    assert products() == products(0, 1, without=torch.no_grad) == 1


@pytest.mark.parametrize("chunk_size", [500, 200])
def test_sequences_without_slope_cost_no_products_backward(chunk_size):
    inputs, batch = case([100, 200, 30, 0, 100], v=50, moved=0.0)
    batch["advantages"] *= torch.tensor([1.0, 0, 1, 1, 0])
    expected = evaluate(plain, inputs, batch)[2]

    def recomputed(hidden, weight, bias, batch):
        options = {"bias": bias, "chunk_size": chunk_size}
        logprobs = linear_logprobs(hidden, weight, batch["targets"], **options)
        given = (batch["old_logprobs"], batch["advantages"], None)
        return gspo_loss(logprobs, *given, lengths=batch["lengths"])

    def one_pass(*given):
        return ours(*given, chunk_size=chunk_size)

    whole = chunk_size == 500  # then the forward pass of the first keeps its softmax
    for function, of_live in ((recomputed, 2 if whole else 3), (one_pass, 2)):
        with Products() as count:
            found = evaluate(function, inputs, batch)[2]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        columns = inputs[1].shape[1] * 50
        bias = (100 + 30) * 50  # the product that sums up the gradient of the bias
        assert count.multiplications - bias == columns * (430 + of_live * 130)
