"""Advantage estimators against golden values, exact arithmetic and their identities."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
from fixtures.examples import FEWER
from fixtures.one_group import one_group
from gspo_rs.groups.estimators import ESTIMATORS
from oracles import golden

levels = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=20)
real = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20)


GOLDEN = {
    "mean_centred": ("mean", {}),
    "rloo": ("rloo", {}),
    "zscore_unbiased_eps1e-6": ("zscore", {}),
    "zscore_unbiased_eps1e-4": ("zscore", {"eps": 1e-4}),
    "zscore_population_eps1e-6": ("zscore", {"ddof": 0}),
    "winrate_2p_minus_1": ("percentile", {"scale": "none"}),
    "winrate_unit_scale": ("percentile", {}),
    "gopo_midrank": ("gopo", {}),
    "top_0.2": ("top_fraction", {}),
    "top_0.5": ("top_fraction", {"q": 0.5}),
    # Other projects' functions, by their names for the same things.
    "grpo (norm by std)": ("zscore", {}),
    "grpo (norm_adv_by_std_in_grpo=False)": ("mean", {}),
    "rloo_vectorized": ("rloo", {}),
    "grpo/scale_group": ("zscore", {"eps": 1e-4}),
    "grpo/scale_none": ("mean", {}),
    "rloo/scale_none": ("rloo", {}),
    "normal_scores_vdw": ("normal", {}),
    "normal_scores_blom": ("normal", {"scores": "blom"}),
    "qae_k0.4_std_unbiased_eps1e-6": ("quantile", {}),
    "maxrl": ("maxrl", {}),
    "best_minus_second": ("best_minus_second", {}),
    "pkpo_max_at_2": ("pkpo", {"k": 2}),
    "passk_training_k2": ("pass_at_k", {"k": 2}),
    "passk_training_k4": ("pass_at_k", {"k": 4}),
    "batch_std_of_raw_rewards_eps1e-4": ("batch_std", {}),
    "rfpp_baseline_seqlevel_unbiased_eps1e-8": ("reinforce_pp", {}),
    "grpo_vectorized": ("zscore", {}),
    "grpo_passk (best minus second)": ("best_minus_second", {}),
    "grpo/scale_batch": ("batch_std", {}),
    "reinforce_plus_plus/scale_batch": ("reinforce_pp", {"eps": 1e-4}),
    "reinforce_plus_plus_baseline": ("reinforce_pp", {}),
}


def test_every_golden_estimator_is_compared():
    assert {entry.estimator for entry in golden.advantages()[1]} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_advantages_are_matched(name):
    cases, entries = golden.advantages()
    entries = [entry for entry in entries if entry.estimator == name]
    assert entries
    estimator, options = GOLDEN[name]
    for entry in entries:
        case = cases[entry.case]
        rewards, groups = case["rewards"], gs.Groups(case["groups"])
        found = gs.advantage(rewards, groups, estimator, **options)
        # Other projects return the raw reward, or its sign, for a lone member; ours is 0.
        usual = (groups.sizes > 1)[groups.codes]
        # Others add their eps where the reference has none.
        tolerance = 1e-12 if entry.source == "reference" else 3e-6
        expected = entry.values
        if (name, entry.case) == ("reinforce_plus_plus_baseline", "ragged_interleaved"):
            # The raw reward of the lone member enters the batch there: another scale and origin.
            slope, shift = np.polyfit(found[usual], expected[usual], 1)
            assert usual.sum() > 2
            assert 0 < slope < 1
            expected = (expected - shift) / slope
        assert_allclose(found[usual], expected[usual], rtol=tolerance, atol=tolerance)
        assert (found[~usual] == 0).all()


def any_group(rewards, estimator):
    """One group under any estimator: its required options, and two rewards where it needs them."""
    n = len(rewards)
    options = {
        "soft_winrate": {"tau": 0.5},
        "pass_at_k": {"k": 2},
        "pkpo": {"k": 2},
        "opo": {"lengths": np.arange(1, n + 1)},
        # The two rewards cancel, and their rounding must not be divided by next to nothing.
        "gdpo": {"eps": 1e-3},
    }
    if estimator in ("gdpo", "borda"):
        rewards = np.stack([rewards, np.negative(rewards)], axis=1)
    if estimator == "maxrl":
        rewards = np.abs(rewards)
    if estimator == "pass_at_k":
        rewards = (np.array(rewards) > 1).astype(float)
    return one_group(rewards, estimator, **options.get(estimator, {}))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@FEWER
@given(
    value=st.floats(allow_nan=False, allow_infinity=False), n=st.integers(0, 50), nan=st.booleans()
)
def test_a_group_of_equal_rewards_has_exactly_no_advantage(estimator, value, n, nan):
    assert_array_equal(any_group([value] * n + [np.nan] * nan, estimator), np.zeros(n + nan))


NOT_CENTRED = {"quantile", "best_minus_second", "pkpo", "opo"}


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name not in NOT_CENTRED])
@FEWER
@given(rewards=st.one_of(levels, real))
def test_advantages_of_a_group_sum_to_zero_under_any_ties(estimator, rewards):
    found = any_group(rewards, estimator)
    assert abs(found.sum()) <= 1e-10 * (1 + np.abs(found).max())


@given(levels)
def test_wins_minus_losses_sum_to_zero_exactly(rewards):
    n = len(rewards)
    numerators = one_group(rewards, "percentile", scale="none") * (n - 1)
    assert sum(round(x) for x in numerators) == 0
    assert_allclose(numerators, np.round(numerators), atol=1e-12)


@given(levels)
def test_percentile_advantages_are_wins_minus_losses_over_opponents(rewards):
    n = len(rewards)
    wins = [sum((a > b) - (a < b) for b in rewards) for a in rewards]
    assert_allclose(
        one_group(rewards, "percentile", scale="none"),
        [float(Fraction(w, n - 1)) for w in wins],
        rtol=1e-15,
    )
    assert (np.abs(wins) <= n - 1).all()


@pytest.mark.parametrize("estimator", ["percentile", "top_fraction", "gopo"])
@given(rewards=levels)
def test_rank_advantages_do_not_change_under_a_rising_transform(estimator, rewards):
    assert_array_equal(one_group(rewards, estimator), one_group(np.exp(rewards) - 7, estimator))


@given(st.lists(st.booleans(), min_size=2, max_size=30))
def test_for_binary_rewards_the_percentile_is_leave_one_out(rewards):
    assert_allclose(
        one_group(rewards, "percentile", scale="none"), one_group(rewards, "rloo"), atol=1e-15
    )


@given(levels)
def test_the_variance_of_percentile_advantages_is_that_of_midranks(rewards):
    n = len(rewards)
    ties = sum(t**3 - t for t in np.unique(rewards, return_counts=True)[1])
    expected = (n + 1) / (3 * (n - 1)) * (1 - ties / (n**3 - n))
    assert np.var(one_group(rewards, "percentile", scale="none")) == pytest.approx(
        expected, abs=1e-12
    )


@given(st.lists(st.integers(), min_size=2, max_size=30, unique=True))
def test_unit_scale_gives_an_untied_group_unit_variance(order):
    rewards = np.argsort(np.argsort(order)).astype(float)
    assert np.var(one_group(rewards, "percentile")) == pytest.approx(1)
    assert_allclose(one_group(rewards, "gopo"), 2 * one_group(rewards, "percentile", scale="none"))


@given(levels)
def test_the_percentile_is_the_uniform_mixture_of_top_fractions(rewards):
    n = len(rewards)
    # The integrand is piecewise linear with kinks at multiples of 1/n: trapezoids are exact.
    q = np.arange(1, n + 1) / n
    tops = np.stack([one_group(rewards, "top_fraction", q=float(x)) for x in q])
    integral = np.trapezoid(np.vstack([np.zeros(n), tops]), np.concatenate([[0], q]), axis=0)
    assert_allclose(
        2 * n / (n - 1) * integral, one_group(rewards, "percentile", scale="none"), atol=1e-12
    )


@pytest.mark.parametrize("probabilities", [(0.2, 0.5, 0.3), (0.6, 0.1, 0.3)])
@pytest.mark.parametrize("rewards", [(0.0, 1.0, 2.0), (1.0, 0.0, 1.0)])
def test_the_percentile_gradient_is_that_of_the_win_rate_against_a_frozen_policy(
    probabilities, rewards
):
    pi, n = np.array(probabilities), 4
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in rewards] for a in rewards])
    # d/dlogits of P(win) with softmax: pi * (value - mean value), value = win rate against pi.
    value = wins @ pi
    expected = pi * (value - pi @ value)
    found = np.zeros(3)
    for draw in product(range(3), repeat=n):
        advantages = one_group([rewards[y] for y in draw], "percentile", scale="none")
        score = np.eye(3)[list(draw)] - pi
        found += np.prod(pi[list(draw)]) * (advantages @ score) / n
    # The advantage is 2 p - 1, and E[2 p - 1] has twice the gradient of the win rate.
    assert_allclose(found, 2 * expected, atol=1e-12)


def test_unscorable_members_have_no_advantage_and_do_not_count():
    found = gs.advantage([1.0, np.nan, 0.0, 5.0], [0, 0, 0, 0], "percentile", scale="none")
    assert_array_equal(found, [0.0, 0.0, -1.0, 1.0])


def test_advantages_at_the_end_of_the_float_range_are_finite():
    assert_allclose(one_group([1.7e308, -1.7e308], "zscore"), [2**-0.5, -(2**-0.5)])


@pytest.mark.parametrize(
    ("estimator", "options", "error", "words"),
    [
        ("percentil", {}, ValueError, "did you mean 'percentile'"),
        (
            "zscore",
            {"epsilon": 1.0},
            TypeError,
            "zscore has no option 'epsilon'; it has ddof=1, eps=1e-06",
        ),
        ("mean", {"q": 1.0}, TypeError, "it has none"),
        ("percentile", {"scale": "std"}, ValueError, "use one of unit, none"),
        ("top_fraction", {"q": 0.0}, ValueError, "q = 0 is out of its range"),
        ("zscore", {"eps": -1.0}, ValueError, "not negative"),
    ],
)
def test_a_wrong_estimator_or_option_is_told_the_right_ones(estimator, options, error, words):
    with pytest.raises(error, match=words):
        one_group([0.0, 1.0], estimator, **options)


def test_every_estimator_gives_a_group_without_signal_advantage_zero():
    """So that leaving it out changes nothing but a penalty, whatever the estimator scales by."""
    tied = [[0, 1, 0.4], [2] * 3, [0.3] * 3, [0] * 3, [1, 1, 0], [3] * 3]
    draw, options = np.random.default_rng(4), {"tau": 0.5, "k": 2}
    for name, has in ESTIMATORS.items():
        given = {key: options[key] for key in options if has.options.get(key, 0) is ...}
        if name == "opo":
            given["lengths"] = draw.integers(1, 9, 18)
        reward = np.concatenate(tied)
        several = np.stack([reward, 2 * reward], axis=1) if has.several else reward
        found = gs.advantage(several, np.repeat(np.arange(6), 3), name, **given).reshape(6, 3)
        assert (found[[1, 2, 3, 5]] == 0).all(), name
        assert (found[[0, 4]] != 0).any(), name
