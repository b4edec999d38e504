"""Losses of whole groups: against enumeration, DPO, and the advantages they linearise to."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

import gspo_rs as gs
from gspo_rs.losses import (
    dpo_loss,
    ipo_loss,
    pairwise_loss,
    plackett_luce_loss,
    sequence_scores,
    top_fraction_loss,
)

LOGISTIC = [plackett_luce_loss, pairwise_loss, top_fraction_loss, dpo_loss]
LISTWISE = [*LOGISTIC, ipo_loss]


def valued(loss_of, scores, *rest, **options):
    leaf = torch.as_tensor(scores, dtype=torch.float64).clone().requires_grad_()
    loss, _ = loss_of(leaf, *rest, **options)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def linear_extensions(h, rewards):
    """The loss by the definition: the probability of every order that the rewards allow."""
    total = 0.0
    for order in itertools.permutations(range(len(h))):
        if all(rewards[a] >= rewards[b] for a, b in itertools.pairwise(order)):
            weights = [math.exp(h[i]) for i in order]
            total += math.prod(w / sum(weights[k:]) for k, w in enumerate(weights))
    return -math.log(total)


tied = st.lists(st.integers(0, 2), min_size=2, max_size=6)


@given(tied, st.integers(0, 2**16), st.floats(0.1, 4.0))
def test_bucket_order_plackett_luce_sums_over_all_orders_of_the_tied(rewards, seed, spread):
    h = spread * np.random.default_rng(seed).standard_normal(len(rewards))
    loss, _ = valued(plackett_luce_loss, h, rewards, [0] * len(rewards))
    assert float(loss) == pytest.approx(linear_extensions(h, rewards), rel=1e-10, abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_at_equal_scores_the_gradients_are_the_rank_advantages(rewards, q):
    ids, n = [7] * len(rewards), len(rewards)
    flat = np.zeros(n)
    percentile = gs.advantage(rewards, ids, "percentile", scale="none")
    found = valued(pairwise_loss, flat, rewards, ids)[1]
    np.testing.assert_allclose(-found, percentile / n, atol=1e-14)
    share = gs.top_fraction(rewards, ids, q)
    found = valued(top_fraction_loss, flat, rewards, ids, q=q)[1]
    np.testing.assert_allclose(-found, (share - q) / (q * n), atol=1e-14)


@given(st.permutations(range(7)))
def test_at_equal_scores_plackett_luce_has_the_savage_scores(order):
    n = len(order)
    savage = [(k > 0) - sum(1 / (n - j) for j in range(min(n - k, n - 1))) for k in order]
    found = valued(plackett_luce_loss, np.zeros(n), list(order), [0] * n)[1]
    np.testing.assert_allclose(-found, savage, atol=1e-12)


@pytest.mark.parametrize("loss_of", LOGISTIC)
@given(st.floats(-50, 50), st.floats(-50, 50), st.booleans())
def test_with_two_members_every_loss_is_that_of_dpo(loss_of, one, other, first):
    rewards = [1.0, 0.0] if first else [0.0, 1.0]
    margin = torch.tensor(one - other if first else other - one, dtype=torch.float64)
    loss, gradient = valued(loss_of, [one, other], rewards, ["a", "a"])
    assert float(loss) == pytest.approx(float(-logsigmoid(margin)), rel=1e-11, abs=1e-12)
    slope = float(torch.sigmoid(-margin)) * (1 if first else -1)
    np.testing.assert_allclose(gradient, [-slope, slope], rtol=1e-10, atol=1e-12)


def test_dpo_and_ipo_are_the_formulas_of_their_papers():
    new, ref = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([-1.5, -2.5, -3.0])
    lengths, rewards = torch.tensor([2, 1]), [1.0, 0.0]
    scores = sequence_scores(new, ref, None, beta=0.5, lengths=lengths)
    assert scores.tolist() == [0.5, -0.5]
    smooth = dpo_loss(scores, rewards, [0, 0], label_smoothing=0.1)[0]
    right, wrong = math.log1p(math.exp(-1.0)), math.log1p(math.exp(1.0))
    assert float(smooth) == pytest.approx(0.9 * right + 0.1 * wrong)
    means = sequence_scores(new, ref, None, beta=1.0, average=True, lengths=lengths)
    assert float(ipo_loss(means, rewards, [0, 0], beta=0.1)[0]) == pytest.approx((1.5 - 5) ** 2)


def test_dpo_takes_the_best_against_the_worst_and_leaves_equals_alone():
    scores = [3.0, 1.0, 2.0, 5.0, 7.0]
    loss, gradient = valued(dpo_loss, scores, [0.5, 0.0, 1.0, 2.0, 2.0], [0, 0, 0, 1, 1])
    assert float(loss) == pytest.approx(math.log1p(math.exp(-1.0)) / 2)
    assert gradient[[0, 3, 4]].tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss_of", [plackett_luce_loss, pairwise_loss, dpo_loss, ipo_loss])
def test_a_group_of_equals_has_loss_and_gradient_zero(loss_of):
    loss, gradient = valued(loss_of, [0.3, -2.0, 5.0], [1.0, 1.0, 1.0], [0, 0, 0])
    assert loss == 0
    assert gradient.abs().sum() == 0


@given(st.data(), st.sampled_from(LISTWISE))
def test_whole_groups_add_up_however_they_are_cut_ordered_or_named(data, loss_of):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=5))
    ids = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    order = rng.permutation(len(ids))
    ids, rewards = ids[order], rng.integers(0, 3, len(ids)).astype(float)
    scores = torch.from_numpy(rng.standard_normal(len(ids)))
    loss, gradient = valued(loss_of, scores, rewards, ids)
    count = sum(size > 1 for size in sizes) or 1
    total, parts = 0.0, torch.zeros_like(scores)
    for group in range(len(sizes)):
        rows = np.flatnonzero(ids == group)
        names = [f"g{group}"] * len(rows)
        part, slope = valued(loss_of, scores[rows], rewards[rows], names, n_groups=count)
        total, parts[rows] = total + part, slope
    torch.testing.assert_close(torch.as_tensor(total).double(), loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts, gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss_of", LISTWISE)
def test_an_unscorable_member_is_as_if_it_were_not_there(loss_of):
    expected = valued(loss_of, [0.3, -2.0, 1.0], [1.0, 0.0, 2.0], [0, 0, 0])
    found = valued(
        loss_of, [math.nan, 0.3, -2.0, 1.0], [math.nan, 1.0, 0.0, 2.0], torch.zeros(4).long()
    )
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][1:], expected[1])
    assert found[1][0] == 0


@pytest.mark.parametrize("loss_of", LISTWISE)
@pytest.mark.parametrize("scale", [100.0, -100.0, 5000.0])
def test_extreme_scores_give_finite_losses_and_gradients(loss_of, scale):
    scores = [scale, 0.0, -scale, scale, 0.0, scale]
    loss, gradient = valued(loss_of, scores, [2.0, 1.0, 0.0, 1.0, 1.0, 0.0], [0, 0, 0, 1, 1, 1])
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss_of", LOGISTIC)
def test_the_gradient_is_that_of_finite_differences(loss_of):
    scores = torch.tensor([0.3, -1.0, 0.4, 0.0, 1.3], dtype=torch.float64, requires_grad=True)
    rewards, ids = [1.0, 0.0, 1.0, 2.0, 0.0], [0, 0, 0, 0, 0]
    assert torch.autograd.gradcheck(lambda h: loss_of(h, rewards, ids)[0], [scores])


@pytest.mark.parametrize("loss_of", LISTWISE)
def test_nothing_to_compare_is_loss_zero(loss_of):
    for scores, rewards, ids in [([], [], []), ([1.0, 2.0], [0.0, 1.0], [0, 1])]:
        loss, gradient = valued(loss_of, scores, rewards, ids)
        assert loss == 0
        assert gradient.abs().sum() == 0


def test_the_metrics_count_pairs_in_the_right_order():
    scores, rewards = torch.tensor([2.0, 1.0, 1.0]), [2.0, 1.0, 0.0]
    _, metrics = pairwise_loss(scores, rewards, [0, 0, 0])
    assert float(metrics["pairs/accuracy"]) == pytest.approx(2.5 / 3)
    assert float(metrics["pairs/margin"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_scores_give_a_float32_loss(dtype):
    scores = torch.tensor([0.5, -0.5], dtype=dtype, requires_grad=True)
    loss, _ = plackett_luce_loss(scores, [1.0, 0.0], [0, 0])
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-1.0)), rel=1e-7)
    assert scores.grad.dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: pairwise_loss(h, [1.0], [0, 0]), "1 rewards and 2 group ids"),
        (lambda h: pairwise_loss(h, [1.0, math.inf], [0, 0]), "reward at row 1 is infinite"),
        (lambda h: pairwise_loss(h, [1.0, 0.0], [0, 0], label_smoothing=0.5), "smoothing=0.5"),
        (lambda h: ipo_loss(h, [1.0, 0.0], [0, 0], beta=0.0), "beta=0.0"),
        (lambda h: top_fraction_loss(h, [1.0, 0.0], [0, 0], q=0.0), "q"),
        (lambda h: dpo_loss(h, [1.0, 0.0], [0, 0], n_groups=0), "n_groups=0"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss_of", "options"),
    [
        (plackett_luce_loss, {}),
        (pairwise_loss, {"label_smoothing": 0.1}),
        (top_fraction_loss, {"q": 0.3}),
        (dpo_loss, {"n_groups": 5}),
        (ipo_loss, {"beta": 0.2}),
    ],
)
def test_a_loss_of_groups_compiles_into_one_graph(loss_of, options):
    torch._dynamo.reset()  # the losses share a wrapper, whose graphs are counted together
    compiled = torch.compile(loss_of, backend="aot_eager", fullgraph=True)
    draw = torch.Generator().manual_seed(0)
    groups = torch.arange(12) // 4
    for dtype in (torch.float32, torch.float64):
        for _ in range(2):  # the second rewards are others: nothing of the first may be kept
            scores = torch.randn(12, generator=draw, dtype=dtype)
            rewards = torch.randint(0, 3, (12,), generator=draw).double()
            rewards[int(3 * rewards[0])] = torch.nan
            found = []
            for called in (loss_of, compiled):
                leaf = scores.clone().requires_grad_()
                loss, metrics = called(leaf, rewards, groups, **options)
                (3 * loss).backward()
                assert not any(value.requires_grad for value in metrics.values())
                found.append((loss.detach(), leaf.grad, metrics))
            torch.testing.assert_close(found[1], found[0])


@pytest.mark.slow
def test_a_compiled_loss_of_groups_refuses_what_the_loss_refuses():
    compiled = torch.compile(pairwise_loss, backend="aot_eager", fullgraph=True)
    with pytest.raises(ValueError, match="should be in"):
        compiled(torch.zeros(2), torch.ones(2), torch.zeros(2), label_smoothing=0.7)
