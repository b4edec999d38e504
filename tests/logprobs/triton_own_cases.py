"""The smaller Triton kernels against float64, in Triton's interpreter or on a GPU: see its test."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fixtures.triton_device import DEVICE, HALF, grid, kernels, recorded
from gspo_rs.logprobs.kernels import own as own_kernels
from gspo_rs.logprobs.kernels import ratios
from gspo_rs.logprobs.rows import Rows
from gspo_rs.losses import gspo_loss
from oracles.emulated_gpu import emulated
from oracles.heads import case, evaluate, ours, plain

pytestmark = [
    pytest.mark.filterwarnings("ignore:clip_low=.* hardly ever clip:UserWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
]
KERNELS = kernels()
NARROW = [torch.bfloat16, torch.float16]


def drawn(tokens, columns, dtype, *, words=9):
    draw = torch.Generator().manual_seed(tokens + columns)
    hidden, weight, of_hidden = (
        torch.randn(k, columns, generator=draw) for k in (tokens, words, tokens)
    )
    vectors = torch.randn(3, tokens, generator=draw).to(DEVICE)
    targets = torch.randint(words, (tokens,), generator=draw).to(DEVICE)
    return *(x.to(DEVICE, dtype) for x in (hidden, weight)), of_hidden.to(DEVICE), targets, *vectors


GRID = grid(3, NARROW, [1, 64, 100, 257], [1, 40], [True, False])


@pytest.mark.parametrize(("dtype", "columns", "tokens", "transposed"), GRID)
def test_rows_are_scaled_and_their_own_terms_added_as_in_float64(
    dtype, columns, tokens, transposed, monkeypatch
):
    monkeypatch.setattr(own_kernels, "COLUMNS", 64)
    hidden, weight, of_hidden, targets, slopes, factors, entry = drawn(tokens, columns, dtype)
    if transposed:
        weight = weight.T.contiguous().T
    found = Rows(slopes, factors=factors, own=entry)
    scale, own = slopes.double() * factors, slopes.double() * entry
    expected = of_hidden.double() * scale[:, None] + own[:, None] * weight.double()[targets]
    scaled, sums = torch.empty_like(hidden), torch.empty_like(slopes)
    given = {"slopes": slopes, "own": sums, "of_hidden": of_hidden, "scaled": scaled}
    KERNELS.scale_rows(hidden, weight, targets, found, **given)
    torch.testing.assert_close(of_hidden.double(), expected, rtol=0, atol=5e-6)
    exact = hidden.double() * scale[:, None]
    torch.testing.assert_close(scaled.double(), exact, rtol=HALF[dtype], atol=1e-6)
    torch.testing.assert_close(sums.double(), own, rtol=1e-6, atol=0)


@pytest.mark.parametrize("left_out", ["of_hidden", "scaled"])
def test_what_needs_no_gradient_is_left_as_it_is(left_out):
    hidden, weight, of_hidden, targets, slopes, factors, entry = drawn(7, 20, torch.bfloat16)
    given = {"of_hidden": of_hidden, "scaled": torch.zeros(7, 20, device=DEVICE)}
    whole = {name: x.clone() for name, x in given.items()}
    found, own = Rows(slopes, factors=factors, own=entry), torch.empty_like(slopes)
    KERNELS.scale_rows(hidden, weight, targets, found, slopes=slopes, own=own, **whole)
    (other,) = {*given} - {left_out}
    part = {left_out: None, other: given[other]}
    KERNELS.scale_rows(hidden, weight, targets, found, slopes=slopes, own=own, **part)
    assert torch.equal(given[other], whole[other])


WORDS = {
    "many": lambda n: torch.arange(n) * 7 % 9,
    "one": lambda n: torch.full((n,), 8),
    "runs of one tile": lambda n: torch.arange(n) // own_kernels.TILE[0] % 9,
    "runs of a tile and one": lambda n: torch.arange(n) // (own_kernels.TILE[0] + 1) % 9,
}


@pytest.mark.parametrize(
    ("dtype", "tokens", "columns", "words"), grid(5, NARROW, [1, 40], [1, 20, 300], WORDS)
)
def test_terms_of_a_word_are_summed_up_as_in_float64_and_alike_on_every_run(
    dtype, tokens, columns, words
):
    hidden, _, _, _, _, _, own = drawn(tokens, columns, dtype)
    targets = WORDS[words](tokens).to(DEVICE)
    before = torch.randn(9, columns).to(DEVICE)
    expected = before.double().index_add(0, targets, hidden.double() * own.double()[:, None])
    found = []
    for _ in range(2):
        found.append(before.clone())
        KERNELS.add_by_word(found[-1], hidden, targets, own)
    torch.testing.assert_close(found[0].double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(*found)
    empty = torch.zeros(0, columns, device=DEVICE), targets[:0], own[:0]
    KERNELS.add_by_word(found[0], *empty)
    assert torch.equal(*found)


LENGTHS = [[5], [0, 3, 0, 40, 1, 0], [70, 64, 1]]
CLIP = {"clip_low": 0.1, "clip_high": 0.2}
MOVED = [0.0, 0.3, 30.0, 1e3, -1e3, math.nan]


@pytest.mark.parametrize(
    ("dtype", "lengths", "moved"), grid(5, [torch.float32, torch.float64], LENGTHS, MOVED)
)
def test_slopes_of_a_ratio_are_those_of_the_loss_by_autograd(dtype, lengths, moved, monkeypatch):
    monkeypatch.setattr(ratios, "BLOCK", 64)
    draw = torch.Generator().manual_seed(len(lengths))
    n, rows = sum(lengths), len(lengths)
    old = -torch.rand(n, generator=draw, dtype=torch.float64)
    each = torch.rand(rows, generator=draw, dtype=torch.float64)
    now = (old + moved * each.repeat_interleave(torch.tensor(lengths))).to(dtype)
    advantages = torch.randn(rows, generator=draw, dtype=dtype)
    weights = torch.rand(rows, generator=draw, dtype=dtype)
    sizes = torch.tensor(lengths)
    leaf = now.clone().requires_grad_()
    loss, _ = gspo_loss(leaf, old.to(dtype), advantages, None, weights, lengths=sizes, **CLIP)
    (expected,) = torch.autograd.grad(loss, leaf)
    most = torch.where(advantages > 0, 1.2, math.exp(20)).to(dtype)
    least = torch.where(advantages < 0, 0.9, math.exp(-20)).to(dtype)
    given = {"pull": (-advantages * weights).to(DEVICE)}
    given |= {"bounds": (least.to(DEVICE), most.to(DEVICE))}
    sequences = tuple(x.to(DEVICE) for x in (sizes.cumsum(0) + 10, sizes))
    found = KERNELS.ratio_slopes(
        now.to(DEVICE), old.to(DEVICE, dtype), sequences, origin=10, **given
    )
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("frozen", "dtype", "chunk_size"), grid(5, [None, 0, 1], NARROW, [8, None])
)
def test_a_head_with_all_kernels_has_the_gradients_of_pytorchs_operations(
    frozen, dtype, chunk_size
):
    lengths = [3, 0, 9, 1, 17, 6]
    inputs, batch = case(lengths, d=20, v=101, dtype=dtype, moved=0.02)
    options = {**CLIP, "chunk_size": chunk_size}
    exact = evaluate(plain, [x.double() for x in inputs], batch, **CLIP)

    def some(hidden, weight, bias, batch, **options):
        leaves = [x.detach() if k == frozen else x for k, x in enumerate((hidden, weight, bias))]
        return ours(*leaves, batch, **options)

    with emulated(KERNELS):
        found = evaluate(some, inputs, batch, **options)
    assert [k for k, mine in enumerate(found[2]) if mine is None] == [frozen] * (frozen is not None)
    for mine, other in zip(found[2], exact[2], strict=True):
        if mine is not None:
            assert (mine.double() - other).norm() < 4 * HALF[dtype] * other.norm()


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("hidden", lambda x: x.T.contiguous().T, ValueError, "hidden .* contiguous"),
        ("targets", lambda x: x.int(), TypeError, r"targets is torch\.int32"),
        ("targets", lambda x: x[:4], ValueError, r"targets has shape \(4,\); expected \(5,\)"),
        ("weight", lambda x: x[:, :4], ValueError, r"weight has shape \(9, 4\); expected \(V, 6\)"),
        ("weight", lambda x: x.float(), TypeError, r"hidden is torch\.bfloat16"),
        ("slopes", lambda x: x.double(), TypeError, r"factors is torch\.float32"),
        ("own", lambda x: x.repeat_interleave(2)[::2], ValueError, "own .* contiguous"),
        ("of_hidden", lambda x: x.T.contiguous().T, ValueError, "of_hidden .* contiguous"),
        ("scaled", lambda x: x[:4], ValueError, r"scaled has shape \(4, 6\)"),
        ("weight", lambda x: x.to("meta"), ValueError, "weight is on meta"),
        ("slopes", lambda x: x.to("meta"), ValueError, "slopes is on meta"),
    ],
)
def test_what_the_first_kernel_would_read_wrongly_is_refused_by_name(name, change, error, message):
    hidden, weight, of_hidden, targets, slopes, factors, entry = drawn(5, 6, torch.bfloat16)
    given = {"hidden": hidden, "weight": weight, "targets": targets, "slopes": slopes}
    given |= {"of_hidden": of_hidden, "scaled": torch.empty_like(hidden), "own": slopes.clone()}
    given[name] = change(given[name])
    with pytest.raises(error, match=message):
        KERNELS.scale_rows(found=Rows(slopes, factors=factors, own=entry), **given)


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("total", lambda x: x.double(), TypeError),
        ("hidden", lambda x: x.T.contiguous().T, ValueError),
        ("targets", lambda x: x[:4], ValueError),
        ("own", lambda x: x.expand(2, -1).T[:, 0].repeat_interleave(2)[::2], ValueError),
    ],
)
def test_what_the_second_kernel_would_read_wrongly_is_refused_by_name(name, change, error):
    hidden, _, _, targets, _, _, own = drawn(5, 6, torch.bfloat16)
    given = {"total": torch.zeros(9, 6, device=DEVICE), "hidden": hidden, "targets": targets}
    given |= {"own": own}
    given[name] = change(given[name])
    with pytest.raises(error, match=name):
        KERNELS.add_by_word(**given)


def test_the_kernels_are_launched_on_the_gpu_that_their_tensors_are_on(monkeypatch):
    own = ((own_kernels, name) for name in ("_scale_kernel", "_word_kernel"))
    current, launched = recorded(monkeypatch, *own, (ratios, "_ratio_kernel"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with FakeTensorMode():
        made = {"device": "cuda:1"}
        hidden, weight = (torch.empty(k, 2500, dtype=torch.bfloat16, **made) for k in (5, 9))
        targets, slopes = torch.empty(5, dtype=torch.int64, **made), torch.empty(5, **made)
        found, total = Rows(slopes, factors=slopes, own=slopes), torch.empty(9, 2500, **made)
        given = {"slopes": slopes, "own": slopes, "of_hidden": None, "scaled": hidden}
        own_kernels.scale_rows(hidden, weight, targets, found, **given)
        own_kernels.add_by_word(total, hidden, targets, slopes)
        sequences, bounds = (targets[:2], targets[:2]), (slopes[:2], slopes[:2])
        given = {"pull": slopes[:2], "bounds": bounds, "origin": 0}
        ratios.ratio_slopes(slopes, slopes, sequences, **given)
    assert launched == [((5, 2), "cuda:1"), ((5, 10), "cuda:1"), ((2,), "cuda:1")]
    assert current == ["cuda:0"]
