"""The head on a GPU, traced without one: dtypes and devices fit, and nothing waits for it."""

import itertools

import pytest
import torch

from fixtures.fake_gpu import NOTHING, fake_gpu
from gspo_rs.logprobs import chunk, launch
from gspo_rs.logprobs.chunked import ChunkedLogprobs
from gspo_rs.logprobs.linear import linear_logprobs_and_entropy
from gspo_rs.losses import layout, linear, linear_gspo_loss

LENGTHS = torch.tensor([30, 0, 7, 13])
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
CASES = list(itertools.product([True, False], [True, False], [None, 5.0], [None, 16]))


@pytest.fixture(autouse=True)
def gpu_of_32_gib(monkeypatch):
    """What needs numbers: the check of the lengths, which the host has, and the free memory."""
    for module in (layout, linear):
        monkeypatch.setattr(module, "check_lengths", lambda lengths, n: None)
    monkeypatch.setattr(chunk, "_free", lambda index: 2**35)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def inputs(dtype, biased):
    made = {"device": "cuda", "dtype": dtype, "requires_grad": True}
    hidden, weight = torch.zeros(50, 16, **made), torch.zeros(101, 16, **made)
    bias = torch.zeros(101, **made) if biased else None
    return hidden, weight, torch.zeros(50, dtype=torch.int64, device="cuda"), bias


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "off_policy", "softcap", "chunk_size"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_one_pass_loss_is_traced(dtype, kernel, off_policy, softcap, chunk_size, monkeypatch):
    monkeypatch.setattr(launch, "kernels_on", lambda _: NOTHING if kernel else None)
    with fake_gpu():
        hidden, weight, targets, bias = inputs(dtype, biased=kernel)
        old = torch.zeros(50, device="cuda") if off_policy else None
        given = (hidden, weight, targets, old, torch.zeros(4), LENGTHS)
        loss, _ = linear_gspo_loss(*given, bias=bias, softcap=softcap, chunk_size=chunk_size)
        assert loss.device.type == "cuda"
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("chunk_size", [None, 16])
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_and_their_backward_pass_are_traced(
    dtype, kernel, chunk_size, monkeypatch
):
    monkeypatch.setattr(launch, "kernels_on", lambda _: NOTHING if kernel else None)
    with fake_gpu():
        hidden, weight, targets, bias = inputs(dtype, biased=True)
        options = {"bias": bias, "chunk_size": chunk_size}
        logprobs, entropy = linear_logprobs_and_entropy(hidden, weight, targets, **options)
        assert logprobs.requires_grad
        assert not entropy.requires_grad
        # Autograd itself does not run on what has no contents.
        with torch.no_grad():
            slopes = torch.zeros_like(logprobs)
            found = ChunkedLogprobs.backward(logprobs.grad_fn, slopes, None)
        assert [x.dtype for x in found[:3]] == [dtype] * 3
        assert [x.shape for x in found[:3]] == [hidden.shape, weight.shape, bias.shape]
