"""Identities between estimators, and between an estimator and the loss that it linearises."""

from itertools import product
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
from fixtures.one_group import levels, one_group


@given(levels)
def test_a_percentile_is_the_midrank_less_one_over_the_opponents(rewards):
    ids = np.zeros(len(rewards), dtype=int)
    expected = (gs.rank(rewards, ids) - 1) / (len(rewards) - 1)
    assert_array_equal(gs.percentile(rewards, ids), expected)


@given(levels)
def test_only_a_lone_winner_or_loser_has_a_percentile_advantage_of_one(rewards):
    found = one_group(rewards, "percentile", scale="none")
    for reward, advantage in zip(rewards, found, strict=True):
        lone = rewards.count(reward) == 1
        assert (advantage == 1) == (lone and reward == max(rewards))
        assert (advantage == -1) == (lone and reward == min(rewards))
        assert abs(advantage) <= 1


@given(levels, st.floats(1, 1e300))
def test_an_outlier_moves_no_advantage_that_counts_ranks(rewards, factor):
    best = max(rewards)
    moved = [best + factor if reward == best else reward for reward in rewards]
    for estimator in ("percentile", "top_fraction", "gopo", "normal"):
        assert_array_equal(one_group(rewards, estimator), one_group(moved, estimator))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_maxrl_without_its_baseline_is_unbiased_for_the_series_cut_after_n(n):
    pi, rewards = np.array([0.2, 0.5, 0.3]), np.array([1.0, 0.0, 0.0])
    found = np.zeros(3)
    for draw in product(range(3), repeat=n):
        drawn = rewards[list(draw)]
        # The baseline that maxrl takes off is 1 in a group that has a right answer.
        without = one_group(drawn, "maxrl") + (drawn.mean() > 0)
        found += np.prod(pi[list(draw)]) * (without @ (np.eye(3)[list(draw)] - pi)) / n
    p = pi @ rewards
    slope = sum((1 - p) ** j for j in range(n))
    assert_allclose(found, slope * pi * (rewards - p), atol=1e-13)


def pull(loss_of, n):
    """Minus the gradient of a loss of the scores h of a group, where they are all 0."""
    h = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    loss_of(h).backward()
    return -h.grad.numpy()


@given(levels)
def test_the_percentile_is_what_the_logistic_loss_of_all_pairs_pulls_at_first(rewards):
    n = len(rewards)

    def loss_of(h):
        beats = torch.tensor(np.greater.outer(rewards, rewards))
        losses = torch.nn.functional.softplus(h[None, :] - h[:, None])
        return torch.where(beats, losses, 0.0).sum() / comb(n, 2)

    expected = one_group(rewards, "percentile", scale="none") / n
    assert_allclose(pull(loss_of, n), expected, atol=1e-15)


@given(levels, st.sampled_from([0.2, 0.5, 1.0]))
def test_the_top_fraction_is_what_cross_entropy_to_the_top_pulls_at_first(rewards, q):
    n = len(rewards)
    share = gs.top_fraction(rewards, np.zeros(n, dtype=int), q)

    def loss_of(h):
        return -(torch.from_numpy(share) * torch.log_softmax(h, 0)).sum() / (q * n)

    assert_allclose(pull(loss_of, n) * q * n, one_group(rewards, "top_fraction", q=q), atol=1e-14)


@pytest.mark.parametrize("estimator", ["mean", "rloo", "zscore", "batch_std", "reinforce_pp"])
def test_no_two_decimal_reward_in_float32_gives_a_tied_group_an_advantage(estimator):
    rewards = np.repeat(np.arange(1, 100, dtype=np.float32) / 100, 8)
    ids = np.repeat(np.arange(99), 8)
    assert_array_equal(gs.advantage(rewards, ids, estimator), 0)


@pytest.mark.parametrize("estimator", ["percentile", "zscore", "quantile", "maxrl"])
def test_a_long_call_has_the_bits_of_short_ones(estimator):
    rng = np.random.default_rng(0)
    ids, rewards = rng.integers(0, 5_000, 60_000), rng.random(60_000)
    found = gs.advantage(rewards, ids, estimator)
    for rest in range(10):
        own = ids % 10 == rest
        assert_array_equal(gs.advantage(rewards[own], ids[own], estimator), found[own])
