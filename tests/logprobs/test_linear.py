import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gspo_rs.logprobs import chunk, head
from gspo_rs.logprobs.linear import (
    default_chunk_size,
    linear_logprobs,
    linear_logprobs_and_entropy,
)

GIB = 2**30


def case(n=37, d=8, v=50, dtype=torch.float64, bias=True, spread=1.0):
    generator = torch.Generator().manual_seed(n + v)
    hidden = torch.randn(n, d, generator=generator, dtype=torch.float64) * spread
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64)
    offset = torch.randn(v, generator=generator, dtype=torch.float64) if bias else None
    targets = torch.randint(v, (n,), generator=generator)
    upstream = torch.randn(n, generator=generator, dtype=torch.float64)
    inputs = [None if x is None else x.to(dtype) for x in (hidden, weight, offset)]
    return inputs, targets, upstream


def plain(hidden, weight, bias, targets, temperature=1.0, softcap=None):
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits / temperature
    return logits.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]


def with_gradients(function, inputs, targets, upstream, **options):
    leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
    values = function(*leaves, targets, **options)
    (values * upstream.to(values.dtype)).sum().backward()
    return values.detach(), [x.grad for x in leaves if x is not None]


def ours(hidden, weight, bias, targets, **options):
    return linear_logprobs(hidden, weight, targets, bias=bias, **options)


def with_entropy(hidden, weight, bias, targets, **options):
    return linear_logprobs_and_entropy(hidden, weight, targets, bias=bias, **options)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk_size", [1, 5, 36, 37, None])
def test_values_and_gradients_are_those_of_the_whole_log_softmax(chunk_size, temperature, bias):
    inputs, targets, upstream = case(bias=bias)
    expected = with_gradients(plain, inputs, targets, upstream, temperature=temperature)
    found = with_gradients(
        ours, inputs, targets, upstream, temperature=temperature, chunk_size=chunk_size
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk_size", [5, None])
def test_the_soft_cap_comes_before_the_temperature(chunk_size, temperature):
    inputs, targets, upstream = case()
    options = {"temperature": temperature, "softcap": 2.5}
    expected = with_gradients(plain, inputs, targets, upstream, **options)
    found = with_gradients(ours, inputs, targets, upstream, chunk_size=chunk_size, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 400.0])
@pytest.mark.parametrize("chunk_size", [5, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_target_too_unlikely_for_the_exponential_keeps_its_log_probability(
    dtype, chunk_size, softcap
):
    inputs, targets, upstream = case(dtype=dtype, spread=400.0)
    options = {"temperature": 0.5, "softcap": softcap}
    double = [x.double() for x in inputs]
    expected = with_gradients(plain, double, targets, upstream, **options)
    found = with_gradients(ours, inputs, targets, upstream, chunk_size=chunk_size, **options)
    lost = expected[0].to(dtype).exp() == 0
    assert 0.2 < lost.double().mean() < 1
    for one, other in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        assert one.isfinite().all()
        close = {"rtol": 0, "atol": 300 * torch.finfo(dtype).eps * float(other.abs().max())}
        torch.testing.assert_close(one.double(), other, **close)


@pytest.mark.parametrize("chunk_size", [2, None])
def test_the_gradient_is_that_of_finite_differences(chunk_size):
    inputs, targets, _ = case(n=5, d=3, v=7)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(
        lambda *x: ours(*x, targets, temperature=1.3, chunk_size=chunk_size), leaves
    )


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_a_frozen_input_gets_no_gradient_and_the_others_keep_theirs(frozen):
    inputs, targets, upstream = case()
    expected = with_gradients(plain, inputs, targets, upstream)[1]
    leaves = [x.requires_grad_(place != frozen) for place, x in enumerate(inputs)]
    (ours(*leaves, targets, chunk_size=8) * upstream).sum().backward()
    for place, leaf in enumerate(leaves):
        if place == frozen:
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, expected[place], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [4, None])
def test_the_graph_can_be_walked_twice(chunk_size):
    inputs, targets, upstream = case()
    leaves = [x.requires_grad_() for x in inputs]
    loss = (ours(*leaves, targets, chunk_size=chunk_size) * upstream).sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), first, rtol=0, atol=0)


@pytest.mark.parametrize("at_once", [1, 150, 2**17])
@pytest.mark.parametrize("chunk_size", [4, None])
def test_entropy_is_that_of_the_categorical_distribution(chunk_size, at_once, monkeypatch):
    monkeypatch.setattr(head, "IN_CACHE", at_once)
    (hidden, weight, bias), targets, _ = case()
    hidden.requires_grad_()
    logprobs, entropy = with_entropy(
        hidden, weight, bias, targets, temperature=0.8, chunk_size=chunk_size
    )
    dist = torch.distributions.Categorical(logits=(hidden @ weight.T + bias) / 0.8)
    torch.testing.assert_close(entropy, dist.entropy().detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(logprobs, dist.log_prob(targets), rtol=1e-12, atol=1e-12)
    assert logprobs.requires_grad
    assert not entropy.requires_grad


def test_entropy_is_finite_where_a_token_is_impossible():
    (hidden, weight, bias), targets, _ = case()
    bias[3] = -torch.inf
    entropy = with_entropy(hidden, weight, bias, targets)[1]
    logits = (hidden @ weight.T + bias)[:, torch.arange(50) != 3]
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [16, None])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_is_no_further_from_float64_than_the_plain_expression(dtype, chunk_size):
    inputs, targets, upstream = case(n=200, d=32, v=300, dtype=dtype, spread=0.3)
    double = [x.double() for x in inputs]
    truth = with_gradients(plain, double, targets, upstream)
    theirs = with_gradients(plain, inputs, targets, upstream)
    found = with_gradients(ours, inputs, targets, upstream, chunk_size=chunk_size)
    assert found[0].dtype == torch.float32
    for mine, other, exact in zip(
        [found[0], *found[1]], [theirs[0], *theirs[1]], [truth[0], *truth[1]], strict=True
    ):
        # A tenth more: where both round alike, which of them is nearer is chance.
        limit = 1.1 * (other.double() - exact).norm() + 1e-6 * exact.norm()
        assert (mine.double() - exact).norm() <= limit


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return found


@pytest.mark.parametrize("entropy", [False, True])
def test_no_tensor_holds_more_than_a_chunk_of_logits_or_the_head(entropy):
    inputs, targets, _ = case(n=64, d=4, v=100, dtype=torch.float32)
    leaves = [x.requires_grad_() for x in inputs]
    with Largest() as spy:
        found = (with_entropy if entropy else ours)(*leaves, targets, chunk_size=10)
        (found[0] if entropy else found).sum().backward()
    assert spy.elements == 10 * 100
    with Largest() as spy:
        plain(*leaves, targets).sum().backward()
    assert spy.elements == 64 * 100


def test_the_default_chunk_holds_128_mebibytes_of_float32_logits_or_512_tokens():
    assert default_chunk_size(32_768) * 32_768 * 4 == 128 * 2**20
    assert default_chunk_size(1_000_000) == 512


def test_a_longest_sequence_fits_its_chunk_where_that_takes_no_more_than_the_gradient_of_the_head():
    # 512 tokens fit; 900 take the memory of 388 more, 1600 that of 1088.
    for longest, size in ((0, 512), (500, 512), (900, 900), (1536, 1536), (1600, 512)):
        assert default_chunk_size(151_936, longest=longest, width=1024) == size


@pytest.mark.parametrize(
    ("free", "dtype", "longest", "size"),
    [
        (64 * GIB, torch.bfloat16, 0, 8192),
        (64 * GIB, torch.bfloat16, 20_000, 20_000),
        (64 * GIB, torch.bfloat16, 90_000, 52_440),
        (12 * GIB, torch.bfloat16, 0, 6504),
        (3 * GIB, torch.bfloat16, 0, 883),
        (1 * GIB, torch.bfloat16, 0, 512),
        (64 * GIB, torch.float32, 0, 8192),
        (12 * GIB, torch.float32, 0, 5300),
    ],
)
def test_a_chunk_on_a_gpu_has_8192_tokens_or_what_a_quarter_of_the_free_memory_holds(
    free, dtype, longest, size, monkeypatch
):
    monkeypatch.setattr(chunk, "_free", lambda index: free if index == 1 else 0)
    found = default_chunk_size(151_936, "cuda:1", dtype=dtype, longest=longest)
    assert found == size
    if dtype == torch.bfloat16 and size > 2048:
        held = 151_936 * (2 * size + 4 * 2048)
        assert held <= free / 4 < held + 2 * 151_936 or size == max(longest, 8192)


def test_no_tokens_give_no_log_probabilities_and_zero_gradients():
    inputs, _, _ = case()
    leaves = [x.requires_grad_() for x in inputs]
    leaves[0] = torch.empty(0, 8, dtype=torch.float64, requires_grad=True)
    found = ours(*leaves, torch.empty(0, dtype=torch.int64))
    found.sum().backward()
    assert found.shape == (0,)
    assert leaves[1].grad.abs().sum() == 0


def test_autocast_casts_both_factors():
    inputs, targets, upstream = case(dtype=torch.float32)
    expected = ours(inputs[0].bfloat16(), inputs[1].bfloat16(), inputs[2], targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, gradients = with_gradients(ours, inputs, targets, upstream)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert {x.dtype for x in gradients} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(3, dtype=torch.int64)}, r"targets \(n,\)"),
        ({"weight": torch.zeros(50, 9)}, r"weight \(V, D\)"),
        ({"bias": torch.zeros(8)}, r"bias has shape \(8,\)"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"softcap": -1.0}, "softcap is -1.0"),
        ({"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    (hidden, weight, bias), targets, _ = case()
    with pytest.raises(ValueError, match=message):
        linear_logprobs(
            **{"hidden": hidden, "weight": weight, "targets": targets, "bias": bias, **change}
        )


def test_unequal_dtypes_are_named():
    (hidden, weight, _), targets, _ = case()
    with pytest.raises(TypeError, match=r"hidden is torch.float64 and weight torch.float32"):
        linear_logprobs(hidden, weight.float(), targets)


def test_a_module_in_the_place_of_the_matrix_is_refused_and_told_what_takes_it():
    (hidden, *_), targets, _ = case()
    with pytest.raises(TypeError, match=r"weight is a Linear, not a matrix .*: model_logprobs"):
        linear_logprobs(hidden, torch.nn.Linear(hidden.shape[1], 50), targets)


@pytest.mark.parametrize("name", ["weight", "targets", "bias"])
def test_a_tensor_on_another_device_is_named(name):
    given = {"weight": torch.zeros(5, 3), "targets": torch.zeros(2).long(), "bias": torch.zeros(5)}
    given[name] = given[name].to("meta")
    with pytest.raises(ValueError, match=f"{name} is on meta and hidden on cpu"):
        linear_logprobs(torch.zeros(2, 3), **given)
