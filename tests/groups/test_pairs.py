"""Pairs, draws and the length penalty, against enumeration."""

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs

rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, float("nan")])),
    min_size=1,
    max_size=30,
)


def members(ids, rewards):
    """Scorable rows of each group, by first appearance."""
    found = {key: [] for key in ids}
    for row, key in enumerate(ids):
        if rewards[row] == rewards[row]:
            found[key].append(row)
    return list(found.values())


@given(rows, st.sampled_from([0.0, 0.25, 0.3]))
def test_all_pairs_are_those_that_differ_by_more_than_the_margin(case, margin):
    ids, rewards = zip(*case, strict=True)
    expected = {
        (a, b)
        for group in members(ids, rewards)
        for a in group
        for b in group
        if rewards[a] - rewards[b] > margin
    }
    found = gs.preference_pairs(rewards, ids, "all", margin=margin)
    assert found.shape == (len(expected), 2)
    assert set(map(tuple, found.tolist())) == expected


@given(rows)
def test_the_best_is_paired_with_the_worst_the_first_row_of_each(case):
    ids, rewards = zip(*case, strict=True)
    expected = []
    for group in members(ids, rewards):
        best = max(group, key=lambda row: rewards[row], default=None)
        worst = min(group, key=lambda row: rewards[row], default=None)
        if group and rewards[best] > rewards[worst]:
            expected.append([best, worst])
    found = gs.preference_pairs(rewards, ids)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(rows, st.integers(0, 2**70))
def test_a_random_opponent_is_beaten_and_the_same_for_the_same_seed(case, seed):
    ids, rewards = zip(*case, strict=True)
    found = gs.preference_pairs(rewards, ids, "best_random", seed=seed)
    pairs = set(map(tuple, gs.preference_pairs(rewards, ids, "all").tolist()))
    assert set(map(tuple, found.tolist())) <= pairs
    assert_array_equal(found[:, 0], gs.preference_pairs(rewards, ids)[:, 0])
    assert_array_equal(found, gs.preference_pairs(rewards, ids, "best_random", seed=seed))


def test_random_opponents_are_drawn_evenly():
    rewards = np.tile([1.0, 0.0, 0.2, 0.4], 6000)
    found = gs.preference_pairs(rewards, np.arange(24000) // 4, "best_random", seed=1)
    counts = np.bincount(found[:, 1] % 4)
    assert (np.abs(counts[1:] - 2000) < 200).all()


def test_no_pairs_have_the_shape_of_pairs():
    assert gs.preference_pairs([1.0, 1.0], [0, 0], "all").shape == (0, 2)


@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=9), st.integers(1, 10))
def test_draws_are_means_over_all_subsets(rewards, k):
    ids = [0] * len(rewards)
    draws = list(combinations(rewards, k))
    if not draws:
        assert np.isnan(gs.best_of_n(rewards, ids, k)[0])
        assert np.isnan(gs.pass_at_k(rewards, ids, k)[0])
        return
    best = Fraction(sum(int(max(draw)) for draw in draws), len(draws))
    assert_allclose(gs.best_of_n(rewards, ids, k), [float(best)], rtol=1e-14)
    passed = Fraction(sum(max(draw) >= 3 for draw in draws), len(draws))
    assert_allclose(gs.pass_at_k(rewards, ids, k, threshold=3), [float(passed)], atol=1e-15)


def test_pass_at_k_keeps_its_digits_in_a_large_group():
    rewards = np.zeros(65537)
    rewards[:300] = 1.0
    exact = 1 - Fraction(1)
    product = Fraction(1)
    for i in range(40):
        product *= Fraction(65537 - 300 - i, 65537 - i)
    exact = 1 - product
    found = gs.pass_at_k(rewards, np.zeros(65537, dtype=int), 40)
    assert found[0] == pytest.approx(float(exact), rel=1e-14)


@given(st.lists(st.integers(0, 40000), max_size=9), st.integers(1, 20480))
def test_the_overlong_penalty_falls_linearly_over_the_cache(lengths, cache):
    expected = [
        float(min(Fraction(0), max(Fraction(20480 - cache - length, cache), Fraction(-1))))
        for length in lengths
    ]
    found = gs.soft_overlong_penalty(np.array(lengths, dtype=int), cache=cache)
    assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gs.preference_pairs([0.0], [0], "worst"), ValueError, "best_worst, all"),
        (lambda: gs.preference_pairs([0.0], [0], margin=-1.0), ValueError, "not negative"),
        (lambda: gs.preference_pairs([0.0], [0], margin=math.inf), ValueError, "it is finite"),
        (lambda: gs.preference_pairs([0.0], [0], margin=math.nan), ValueError, "it is finite"),
        (lambda: gs.preference_pairs([0.0], [0], seed=-1), ValueError, "seed is -1"),
        (lambda: gs.preference_pairs([0.0, np.inf], [0, 1]), ValueError, "row 1 is inf"),
        (lambda: gs.pass_at_k([0.0], [0], 0), ValueError, "k is 0; it is at least 1"),
        (lambda: gs.best_of_n([0.0], [0], 1.5), TypeError, "n is 1.5; it is an integer"),
        (lambda: gs.soft_overlong_penalty([1.5]), TypeError, "they are integers"),
        (lambda: gs.soft_overlong_penalty([-1]), ValueError, "index 0 is -1"),
        (lambda: gs.soft_overlong_penalty([1], 10, 11), ValueError, "at most max_length"),
        (lambda: gs.advantage_from_wins([], [0]), ValueError, "0 matrices of wins for 1"),
        (lambda: gs.advantage_from_wins([[[0, 1]]], [0]), ValueError, "it has 1 members"),
    ],
)
def test_a_wrong_argument_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
