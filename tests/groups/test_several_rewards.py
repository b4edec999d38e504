"""Estimators that look beyond one group's rewards: batches, pools, lengths, weights, matches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs
from fixtures.examples import FEWER
from gspo_rs.groups.estimators import ESTIMATORS

IDS = np.array([0, 0, 0, 1, 1, 2, 1, 3, 3])
REWARDS = np.array([0.0, 1.0, np.nan, 3.0, 3.0, 9.0, -0.0, 0.7, 0.7])
OPTIONS = {
    "soft_winrate": {"tau": 0.5},
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2},
    "opo": {"lengths": True},
    "gdpo": {"weights": [1.0, 0.3, -0.2]},
    "borda": {"weights": [1.0, 0.3, -0.2]},
}


def centred(rewards, ids):
    """Reward minus group mean; NaN where unscorable."""
    means = {key: np.nanmean(rewards[ids == key]) for key in np.unique(ids)}
    return rewards - np.array([means[key] for key in ids])


@st.composite
def batches(draw):
    rows = draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rewards = rng.choice([rng.normal(size=(len(rows), 3)), rng.integers(0, 3, (len(rows), 3)) / 3])
    rewards[rng.random(rewards.shape) < 0.1] = np.nan
    return np.array(rows), rewards, rng.integers(1, 500, len(rows)), rng.permutation(len(rows))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@FEWER
@given(case=batches())
def test_the_bits_do_not_depend_on_the_order_of_rows_or_groups(estimator, case):
    ids, rewards, lengths, order = case
    options = dict(OPTIONS.get(estimator, {}))
    rewards = np.abs(rewards) if estimator == "maxrl" else rewards
    rewards = rewards if estimator in ("gdpo", "borda") else rewards[:, 0]
    shuffled = dict(options)
    if estimator == "opo":
        options["lengths"], shuffled["lengths"] = lengths, lengths[order]
    if estimator == "percentile":
        options["ties"] = shuffled["ties"] = "midrank"
    found = gs.advantage(rewards, ids, estimator, **options)
    again = gs.advantage(rewards[order], ids[order], estimator, **shuffled)
    if estimator == "best_minus_second":
        # Tied winners have nothing; a lone one is found wherever it lies.
        assert (found >= 0).all()
    assert_array_equal((found[order] + 0.0).view(np.int64), (again + 0.0).view(np.int64))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("estimator", ["batch_std", "reinforce_pp"])
def test_batch_statistics_are_of_all_scorable_rewards(estimator):
    difference = centred(REWARDS, IDS)
    if estimator == "batch_std":
        expected = difference / (np.nanstd(REWARDS, ddof=1) + 0.5)
    else:
        expected = (difference - np.nanmean(difference)) / (np.nanstd(difference, ddof=1) + 0.5)
    prefers = np.isin(IDS, [0, 1]) & ~np.isnan(REWARDS)
    found = gs.advantage(REWARDS, IDS, estimator, eps=0.5)
    assert_allclose(found[prefers], expected[prefers], rtol=1e-14)
    assert_array_equal(found[~prefers], 0)


@pytest.mark.parametrize("estimator", ["batch_std", "reinforce_pp", "gdpo", "borda", "mean"])
def test_dropped_rows_are_in_no_batch(estimator):
    groups = gs.Groups([0, 0, None, 1, 1], null_ids="drop")
    rewards = np.array([0.0, 1.0, 1e6, 2.0, 5.0])
    rest = [0, 1, 3, 4]
    several = estimator in ("gdpo", "borda")
    given = np.stack([rewards, rewards**2], axis=1) if several else rewards
    found = gs.advantage(given, groups, estimator)
    assert np.isnan(found[2])
    assert_array_equal(found[rest], gs.advantage(given[rest], [0, 0, 1, 1], estimator))


@given(batches())
def test_borda_is_the_weighted_sum_of_percentile_advantages(case):
    ids, rewards, _, _ = case
    weights = [0.5, 2.0, -1.0]
    each = [gs.advantage(c, ids, "percentile", scale="none") for c in rewards.T]
    found = gs.advantage(rewards, ids, "borda", weights=weights)
    assert_allclose(found, np.array(weights) @ each, atol=1e-14)
    assert_allclose(gs.advantage(rewards, ids, "borda"), np.sum(each, axis=0), atol=1e-14)


def test_gdpo_leaves_out_what_is_unscorable_or_prefers_nothing():
    rewards = np.array([[1.0, np.nan], [0.0, 2.0], [np.nan, np.nan], [5.0, 5.0], [5.0, 5.0]])
    found = gs.advantage(rewards, [0, 0, 0, 1, 1], "gdpo")
    assert_array_equal(found[2:], 0)
    assert_allclose(found[0], -found[1])


@pytest.mark.parametrize("estimator", ["percentile", "zscore", "batch_std"])
def test_several_rewards_are_summed_before_any_other_estimator(estimator):
    rewards = np.array([[1.0, 2.0], [np.nan, 4.0], [np.nan, np.nan], [0.0, np.nan]])
    found = gs.advantage(rewards, [0] * 4, estimator, weights=[2.0, 0.5])
    expected = gs.advantage([3.0, 2.0, np.nan, 0.0], [0] * 4, estimator)
    assert_array_equal(found, expected)


def test_a_pool_of_rivals_gives_the_share_beaten_less_the_mean_of_the_group():
    rewards = [0.0, 2.0, 9.0, np.nan, 4.0, 4.0]
    found = gs.advantage(rewards, [0, 0, 0, 0, 1, 1], pool=[0.0, 1.0, 2.0, 3.0])
    share = np.array([0.125, 0.625, 1.0])
    assert_allclose(found, [*(share - share.mean()), 0, 0, 0], atol=1e-15)


@given(st.lists(st.integers(0, 3).map(float), min_size=1, max_size=9), st.randoms())
def test_wins_by_reward_give_the_percentile_advantage(rewards, random):
    r = np.array(rewards)
    wins = np.greater.outer(r, r) / 2 + np.greater_equal.outer(r, r) / 2
    found = gs.advantage_from_wins([wins], [0] * len(r))
    assert_array_equal(found, gs.advantage(r, [0] * len(r), scale="none"))
    order = random.sample(range(len(r)), len(r))
    uneven = np.random.default_rng(0).random(wins.shape)
    found = gs.advantage_from_wins([uneven], [0] * len(r))
    again = gs.advantage_from_wins([uneven[np.ix_(order, order)]], [0] * len(r))
    assert_array_equal(found[order], again)
    assert abs(found.sum()) < 1e-14


def test_matches_not_played_are_even_and_groups_may_interleave():
    first = [[np.nan, np.nan], [0.25, np.nan]]
    found = gs.advantage_from_wins([first, [[0, 1], [0, 0]]], ["a", "b", "a", "b"])
    assert_array_equal(found, [0, 1, 0, -1])


@pytest.mark.parametrize(
    ("estimator", "options", "error", "words"),
    [
        ("soft_winrate", {}, TypeError, "soft_winrate needs tau; it has tau"),
        ("soft_winrate", {"tau": 0.0}, ValueError, "tau = 0 is out of its range"),
        ("pass_at_k", {"n": 2}, TypeError, "no option 'n'; it has k, threshold=0.5"),
        ("pkpo", {"k": 0}, ValueError, "k is 0; it is at least 1"),
        ("pkpo", {"k": 2.0}, TypeError, "k is 2.0; it is an integer"),
        ("quantile", {"k": 1.5}, ValueError, "k = 1.5 is out of its range"),
        ("normal", {"scores": "tukey"}, ValueError, "use one of van_der_waerden, blom"),
        ("opo", {"lengths": [1]}, ValueError, "1 lengths for 3 rewards"),
        ("opo", {"lengths": [1.0, 2.0, 3.0]}, TypeError, "1-D integers"),
        ("opo", {"lengths": [0, 0, 0]}, ValueError, "starts at row 0 sum to 0"),
        ("percentile", {"pool": []}, ValueError, "at least one"),
        ("percentile", {"pool": [0.0], "ties": "min"}, TypeError, "have no use"),
        ("borda", {}, ValueError, "several rewards have shape"),
        ("mean", {"weights": [1.0]}, ValueError, "several rewards have shape"),
        ("maxrl", {}, ValueError, "reward at row 1 is -1; maxrl"),
    ],
)
def test_a_wrong_option_is_told_the_right_one(estimator, options, error, words):
    with pytest.raises(error, match=words):
        gs.advantage([0.0, -1.0, 2.0], [0, 0, 0], estimator, **options)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_infinite_reward_is_named_by_its_row(estimator):
    options = dict(OPTIONS.get(estimator, {}))
    options |= {"lengths": [1, 2, 3]} if estimator == "opo" else {}
    rewards = np.array([[0.0] * 3, [1.0] * 3, [0.5, np.inf, 0.5]])
    rewards = rewards if estimator in ("gdpo", "borda") else rewards[:, 1]
    with pytest.raises(ValueError, match="reward at row 2 is inf"):
        gs.advantage(rewards, [0, 0, 0], estimator, **options)


@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        ("mean", {}),
        ("rloo", {}),
        ("best_minus_second", {}),
        ("pkpo", {"k": 2, "baseline": "leave_one_out"}),
        ("opo", {"lengths": [1, 1, 1, 9, 9]}),
    ],
)
def test_an_advantage_beyond_float64_is_an_error_that_names_its_row(estimator, options):
    rewards = [1.0, 1.7e308, 0.0, -1.7e308, -1.7e308]
    ids = ["other", "group", "other", "group", "group"]
    with pytest.raises(ValueError, match="advantage at row 1 leaves the range of float64"):
        gs.advantage(rewards, ids, estimator, **options)


def test_a_deviation_beyond_float64_is_an_error_that_names_its_place():
    rewards, ids = [0.0, 1.7e308, -1.7e308], [5, 6, 6]
    with pytest.raises(ValueError, match="standard deviation of group 1, whose rewards lie"):
        gs.stats(rewards, ids)
    with pytest.raises(ValueError, match="standard deviation at row 1 leaves the range"):
        gs.rows(rewards, ids, ["group_std"])
    assert gs.informative(rewards, ids).tolist() == [False, True]


@pytest.mark.parametrize("estimator", ["gdpo", "borda", "mean"])
def test_a_weighted_sum_beyond_float64_is_an_error_that_names_its_row(estimator):
    rewards = [[0.0, 0.0], [1.0, 1.0], [9.0, 9.0]]
    with pytest.raises(ValueError, match=r"weighted sum of the .* at row \d leaves the range"):
        gs.advantage(rewards, [0, 0, 0], estimator, weights=[1.7e308, 1.7e308])


def test_wins_beyond_float64_are_an_error_that_names_the_group():
    wins = [[0, 1e308, 1e308], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="wins of group 0, added, leave the range of float64"):
        gs.advantage_from_wins([wins], [0, 0, 0])
