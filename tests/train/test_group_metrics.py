"""What a step says of its groups, against enumeration, pandas and random breaking of ties."""

import math
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest

from gspo_rs import Groups
from gspo_rs.train.step.group_metrics import draw_metrics, order_metrics, tie_metrics

SIZES = (5, 1, 4, 3, 2, 6)
IDS = np.repeat(np.arange(len(SIZES)), SIZES)


def drawn(seed, levels, unscored=0.15):
    draw = np.random.default_rng(seed)
    rewards = draw.integers(0, levels, len(IDS)) * 0.5
    rewards[draw.random(len(IDS)) < unscored] = np.nan
    return rewards


def by_group(rewards):
    groups = [rewards[group == IDS] for group in range(len(SIZES))]
    return [group[~np.isnan(group)].tolist() for group in groups]


def mean_of(values):
    known = [value for value in values if value is not None]
    return np.mean(known) if known else math.nan


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [2, 3])
def test_ties_are_those_of_all_pairs_and_all_best_are_equal_at_the_top(seed, levels):
    rewards = drawn(seed, levels)
    groups = by_group(rewards)
    pairs = [pair for group in groups for pair in combinations(group, 2)]
    scored = rewards[~np.isnan(rewards)]
    expected = {
        "group/tie_frac": np.mean([a == b for a, b in pairs]),
        "group/distinct": np.mean([len(set(group)) for group in groups if group]),
        "group/all_best": np.mean([set(group) == {scored.max()} for group in groups]),
        "group/all_worst": np.mean([set(group) == {scored.min()} for group in groups]),
    }
    assert tie_metrics(rewards, Groups(IDS)) == pytest.approx(expected)


def test_right_and_wrong_are_the_ends_where_all_rewards_are_one_of_them():
    solved = tie_metrics(np.ones(4), Groups(["a", "a", "b", "b"]))
    assert (solved["group/all_best"], solved["group/all_worst"]) == (1, 0)
    failed = tie_metrics(np.zeros(4), Groups(["a", "a", "b", "b"]))
    assert (failed["group/all_best"], failed["group/all_worst"]) == (0, 1)


def test_of_equal_scores_of_another_kind_nobody_knows_whether_they_are_the_best():
    found = tie_metrics(np.full(4, 7.5), Groups(["a", "a", "b", "b"]))
    assert found == {"group/tie_frac": 1.0, "group/distinct": 1.0}
    assert tie_metrics(np.full(2, np.nan), Groups(["a", "a"])) == {}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("levels", [3, 4])
def test_the_best_of_k_is_the_mean_over_all_choices_of_k(seed, levels):
    rewards = drawn(seed, levels)
    groups = by_group(rewards)
    expected = {
        f"bestofn/{k}": mean_of(
            np.mean([max(chosen) for chosen in combinations(group, k)]) if len(group) >= k else None
            for group in groups
        )
        for k in (1, 2, 4)
    }
    assert draw_metrics(rewards, Groups(IDS)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(10))
def test_pass_at_k_is_the_share_of_all_choices_of_k_with_one_that_is_right(seed):
    rewards = drawn(seed, 2) * 2
    found = draw_metrics(rewards, Groups(IDS))
    for k in (1, 2, 4):
        shares = [
            np.mean([1.0 in chosen for chosen in combinations(group, k)])
            if len(group) >= k
            else None
            for group in by_group(rewards)
        ]
        assert found[f"passk/{k}"] == pytest.approx(mean_of(shares), nan_ok=True)
        assert found[f"bestofn/{k}"] == pytest.approx(mean_of(shares), nan_ok=True)


def measured(seed, levels=3):
    """Rewards without gaps, and log-probabilities some of which tie."""
    draw = np.random.default_rng(seed)
    rewards = drawn(seed, levels, unscored=0.0)
    return rewards, draw.integers(-4, 0, len(IDS)) / 2, draw.normal(size=len(IDS))


@pytest.mark.parametrize("seed", range(20))
def test_the_rank_correlation_is_that_of_pandas_averaged_over_groups(seed):
    rewards, logprobs, log_ratios = measured(seed)
    frame = pd.DataFrame({"reward": rewards, "logprob": logprobs})
    found = order_metrics(rewards, IDS, logprobs, log_ratios, q=0.2)["rank/spearman_logp"]
    with np.errstate(invalid="ignore"):
        each = [
            part.corr(method="spearman").loc["reward", "logprob"]
            for _, part in frame.groupby(IDS)
            if part["reward"].nunique() > 1 and part["logprob"].nunique() > 1
        ]
    assert found == pytest.approx(np.mean(each))


def shares_of(group, n_top):
    """How often each member is among the best, over all ways to break its ties."""
    counts = np.zeros(len(group))
    orders = list(permutations(range(len(group))))
    for order in orders:
        best_first = sorted(order, key=lambda place: -group[place])  # keeps the order of ties
        counts[best_first[:n_top]] += 1
    return counts / len(orders)


@pytest.mark.parametrize("seed", range(8))
def test_the_top_shift_is_that_of_the_best_with_ties_broken_in_all_ways(seed):
    draw = np.random.default_rng(seed)
    ids = np.repeat([3, 1], 5)
    rewards, log_ratios = draw.integers(0, 3, 10) * 1.0, draw.normal(size=10)
    found = order_metrics(rewards, ids, log_ratios, log_ratios, q=0.4)
    top = np.concatenate([shares_of(rewards[:5], 2), shares_of(rewards[5:], 2)])
    differ = np.repeat([len(set(rewards[:5])) > 1, len(set(rewards[5:])) > 1], 5)
    moved, top = log_ratios[differ], top[differ]
    expected = np.average(moved, weights=top) - np.average(moved, weights=1 - top)
    assert found["percentile/top_q_prob_shift"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_sequences_changes_nothing_about_their_order_in_groups(seed):
    rewards, logprobs, log_ratios = measured(seed)
    order = np.random.default_rng(seed).permutation(len(IDS))
    expected = order_metrics(rewards, IDS, logprobs, log_ratios, q=0.2)
    given = (values[order] for values in (rewards, IDS, logprobs, log_ratios))
    assert order_metrics(*given, q=0.2) == pytest.approx(expected)


def test_where_no_group_differs_there_is_no_order_and_a_lost_model_has_none():
    same = np.ones(4), np.array([0, 0, 1, 1])
    found = order_metrics(*same, np.arange(4.0), np.arange(4.0), q=0.2)
    assert all(math.isnan(value) for value in found.values())
    lost = np.array([0.0, -np.inf, 1.0, 2.0])
    assert order_metrics(np.arange(4.0), same[1], lost, lost, q=0.2) == {}
    whole = order_metrics(np.arange(4.0), same[1], np.ones(4), np.arange(4.0), q=1.0)
    assert all(math.isnan(value) for value in whole.values())  # all tied, and no rest
