"""Quantiles among references and their partition function: against enumeration and the paper."""

import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs

betas = st.sampled_from([1e-3, 0.01, 0.1, 1.0, 10.0])
levels = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan])
lists = st.lists(levels, min_size=1, max_size=9)


def share(value, references):
    """The share of the references that a value beats, exactly; a tie counts half."""
    twice = sum(2 * (r < value) + (r == value) for r in references)
    return Fraction(twice, 2 * len(references))


def by_definition(value, references, beta):
    """Quantile and ``log Z``, each quantile a fraction and the sum taken from the largest down."""
    exponents = [share(r, references) / Fraction(beta) for r in references]
    top = max(exponents)
    mean = math.fsum(math.exp(float(x - top)) for x in exponents) / len(exponents)
    return float(share(value, references)), float(top) + math.log(mean)


def published(beta):
    """``log Z`` of the paper, for endlessly many references without ties."""
    return math.log(beta) + 1 / beta + math.log1p(-math.exp(-1 / beta))


@given(st.lists(lists, min_size=1, max_size=6), betas, st.randoms())
def test_the_others_of_a_group_give_what_their_enumeration_gives(groups, beta, random):
    rewards = [reward for group in groups for reward in group]
    ids = [g for g, group in enumerate(groups) for _ in group]
    order = list(range(len(ids)))
    random.shuffle(order)
    expected = np.full((2, len(ids)), np.nan)
    for row in order:
        if not math.isnan(rewards[row]):
            others = [r for i, r in enumerate(rewards) if ids[i] == ids[row] and i != row]
            others = [r for r in others if not math.isnan(r)] or [rewards[row]]
            expected[:, row] = by_definition(rewards[row], others, beta)
    found = gs.quantile_rewards(np.array(rewards)[order], np.array(ids)[order], beta=beta)
    assert_allclose(found, expected[:, order], rtol=1e-12, atol=1e-13)
    assert_array_equal(found[0], gs.percentile(np.array(rewards)[order], np.array(ids)[order]))


@given(st.lists(st.tuples(levels, lists), min_size=1, max_size=6), betas)
def test_references_of_each_rollout_give_what_their_enumeration_gives(cases, beta):
    rewards = [reward for reward, _ in cases]
    known = [[r for r in references if not math.isnan(r)] for _, references in cases]
    cases = [(r, ref if any(map(math.isfinite, ref)) else [1.0]) for r, ref in cases]
    expected = [
        (math.nan, math.nan) if math.isnan(r) else by_definition(r, some or [1.0], beta)
        for r, some in zip(rewards, known, strict=True)
    ]
    pool = [references for _, references in cases]
    found = gs.quantile_rewards(rewards, group_size=1, beta=beta, pool=pool)
    assert_allclose(np.transpose(found), expected, rtol=1e-12, atol=1e-13)
    # One list for all is that list for each.
    same = [pool[0]] * len(rewards)
    assert_array_equal(
        gs.quantile_rewards(rewards, group_size=1, beta=beta, pool=pool[0]),
        gs.quantile_rewards(rewards, group_size=1, beta=beta, pool=same),
    )


@given(st.integers(1, 40), st.integers(0, 2**16), st.sampled_from([0.05, 0.3, 1.0, 10.0]))
def test_without_ties_the_quantile_is_the_paper_s_and_z_the_midpoint_rule_of_its_integral(
    size, seed, beta
):
    draw = np.random.default_rng(seed)
    references, reward = draw.permutation(size) / size, draw.uniform(-0.5, 1.5)
    quantile, log_partition = gs.quantile_rewards([reward], ["a"], beta=beta, pool=references)
    assert quantile == pytest.approx((references <= reward).mean(), abs=1e-15)
    # The sum of a geometric series, over its limit.
    width = 1 / (2 * size * beta)
    off = math.log(math.sinh(width) / width)
    assert log_partition == pytest.approx(published(beta) - off, rel=1e-12, abs=1e-13)


def test_with_many_references_the_targets_are_those_of_the_authors_code():
    draw = np.random.default_rng(0)
    references, rewards, beta = draw.normal(size=20_000), draw.normal(size=50), 0.1
    quantiles, log_partition = gs.quantile_rewards(
        rewards, group_size=1, beta=beta, pool=references
    )
    theirs = np.array([(references <= r).mean() for r in rewards])
    theirs -= beta * (math.log(beta) + 1 / beta)
    assert_allclose(quantiles - beta * log_partition, theirs, rtol=0, atol=1e-5)


@given(lists.filter(lambda some: any(map(math.isfinite, some))), betas)
def test_the_policy_that_the_targets_are_of_sums_to_one_whatever_ties(references, beta):
    answers = np.array([r for r in references if not math.isnan(r)])
    quantiles, log_partition = gs.quantile_rewards(answers, group_size=1, beta=beta, pool=answers)
    log_ratio = quantiles / beta - log_partition  # of the best policy to one uniform on the answers
    assert np.exp(log_ratio).mean() == pytest.approx(1, rel=1e-10)
    assert quantiles.mean() == pytest.approx(0.5)


def test_the_published_partition_is_2_nats_off_where_seven_of_eight_tie():
    answers = np.array([1.0] * 7 + [0.0])
    _, (log_partition, *_) = gs.quantile_rewards(answers, group_size=1, beta=0.1, pool=answers)
    by_hand = math.log((7 * math.exp(4.5 / 8 / 0.1) + math.exp(0.5 / 8 / 0.1)) / 8)
    assert log_partition == pytest.approx(by_hand, rel=1e-14)
    assert published(0.1) - log_partition == pytest.approx(2.2, abs=0.01)
    # With it the probabilities of the best policy would add up to a ninth.
    quantiles, _ = gs.quantile_rewards(answers, group_size=1, beta=0.1, pool=answers)
    assert np.exp(quantiles / 0.1 - published(0.1)).mean() == pytest.approx(
        math.exp(-2.2), abs=0.01
    )


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.integers(1, 3), betas)
def test_only_the_order_of_rewards_counts(rewards, size, beta):
    ids = [row % size for row in range(len(rewards))]
    one, other = np.array(rewards, float), np.exp(1.3 * np.array(rewards)) - 7
    assert_array_equal(
        gs.quantile_rewards(one, ids, beta=beta), gs.quantile_rewards(other, ids, beta=beta)
    )
    assert_array_equal(
        gs.quantile_rewards(one, ids, beta=beta, pool=one),
        gs.quantile_rewards(other, ids, beta=beta, pool=other),
    )


def test_a_rollout_of_no_group_has_nothing():
    groups = gs.Groups(pl.Series(["a", None, "a"]), null_ids="drop")
    for pool in (None, [0.0, 1.0], [[0.0, 1.0]] * 3):
        found = gs.quantile_rewards([0.0, 5.0, 1.0], groups, pool=pool)
        assert np.isnan(found).tolist() == [[False, True, False]] * 2


@pytest.mark.parametrize(
    "pool",
    [
        [[0.0, 1.0], [0.0, 1.0]],
        np.array([[0.0, 1.0], [0.0, 1.0]]),
        torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
        pl.Series([[0.0, 1.0], [0.0, None, 1.0]]),
        [0.0, 1.0],
        pl.Series([0.0, 1.0]),
        torch.tensor([0, 1]),
    ],
    ids=str,
)
def test_references_come_in_any_container(pool):
    quantiles, _ = gs.quantile_rewards(np.array([1.0, 0.5]), np.array([0, 1]), pool=pool)
    assert quantiles.tolist() == [0.75, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0; it is above 0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"pool": []}, "no reward that is a number"),
        ({"pool": [math.nan]}, "no reward that is a number"),
        ({"pool": [math.inf]}, "pool holds inf"),
        ({"pool": [[1.0], []]}, "the rollout at row 1 has no reference"),
        ({"pool": [[1.0], None]}, "the rollout at row 1 has no reference"),
        ({"pool": [[1.0]] * 3}, "references of 3 rollouts; there are 2"),
    ],
)
def test_what_does_not_fit_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        gs.quantile_rewards([1.0, 0.0], ["a", "a"], **options)


def test_an_infinite_reward_is_named_by_its_row():
    for pool in (None, [0.0]):
        with pytest.raises(ValueError, match="row 1 is inf"):
            gs.quantile_rewards([1.0, math.inf], ["a", "a"], pool=pool)
