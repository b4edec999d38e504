"""Several sequences of one rollout: its reward counts once, and each gets its advantage."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import gspo_rs as gs
from fixtures.examples import FEWER
from gspo_rs.groups.estimators import ESTIMATORS
from gspo_rs.groups.sequences import sequences_of

OPTIONS = {
    "pass_at_k": {"k": 2},
    "pkpo": {"k": 2},
    "soft_winrate": {"tau": 0.5},
}


@st.composite
def split_rollouts(draw):
    """Rollouts with their groups, and the rollout of each row where each gave one to four."""
    n = draw(st.integers(1, 24))
    groups = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    rewards = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, np.nan]), min_size=n, max_size=n))
    counts = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    rows = np.repeat(np.arange(n), counts)
    # In any order in which the first rows of the rollouts keep theirs.
    keys = draw(st.lists(st.floats(0, 1), min_size=len(rows), max_size=len(rows)))
    first = np.r_[True, rows[1:] != rows[:-1]]
    order = np.argsort(np.where(first, rows, n * (1 + np.array(keys))), kind="stable")
    return np.array(groups), np.array(rewards), rows[order]


def options_of(name, groups):
    needs = ESTIMATORS[name].needs
    lengths = {"lengths": 3 + np.arange(len(groups)) % 5} if "lengths" in needs else {}
    return {**OPTIONS.get(name, {}), **lengths}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
@FEWER
@given(split_rollouts())
def test_splitting_rollouts_changes_no_bit_of_any_advantage(name, case):
    groups, rewards, rows = case
    options = options_of(name, groups)
    given_rewards = np.stack([rewards, rewards[::-1]], 1) if ESTIMATORS[name].several else rewards
    expected = gs.advantage(given_rewards, groups, name, **options)
    if "lengths" in options:
        counts = np.bincount(rows)
        # The lengths of the sequences of a rollout add up to its own.
        parts = options["lengths"][rows] // counts[rows]
        rest = options["lengths"] - np.bincount(rows, parts).astype(np.int64)
        seen = np.r_[True, [row not in rows[:place] for place, row in enumerate(rows)][1:]]
        options = {**options, "lengths": parts + np.where(seen, rest[rows], 0)}
    found = gs.advantage(given_rewards[rows], groups[rows], name, rollouts=rows, **options)
    assert_array_equal(found, expected[rows])


def test_an_id_is_of_one_rollout_in_each_group():
    found = gs.advantage([1.0, 0.0, 0.0, 1.0], ["a", "a", "b", "b"], "mean", rollouts=[0, 1, 0, 1])
    assert found.tolist() == [0.5, -0.5, -0.5, 0.5]


def test_ids_have_the_shape_of_rewards_without_groups():
    found = gs.advantage([[1.0, 1.0, 0.0]], estimator="mean", rollouts=[["x", "x", "y"]])
    assert found.tolist() == [[0.5, 0.5, -0.5]]


def test_ids_may_be_a_column_of_polars_and_a_dropped_row_has_no_advantage():
    groups = gs.Groups(["a", None, "a", "a"], null_ids="drop")
    found = gs.advantage([1.0, 5.0, 1.0, 0.0], groups, "mean", rollouts=pl.Series([1, 1, 1, 2]))
    assert_array_equal(found, [0.5, np.nan, 0.5, -0.5])


@pytest.mark.parametrize("other", [0.5, np.nan])
def test_two_rewards_of_one_rollout_are_refused_with_their_rows(other):
    with pytest.raises(
        ValueError, match=r"row 1 and row 3 are sequences of one rollout .* 1\.0 and"
    ):
        gs.advantage([0.0, 1.0, 1.0, other], [0, 0, 0, 0], rollouts=["x", "y", "y", "y"])


def test_two_of_several_rewards_of_one_rollout_are_refused():
    with pytest.raises(ValueError, match="row 0 and row 1"):
        gs.advantage([[0.0, 1.0], [0.0, 2.0]], [0, 0], "gdpo", rollouts=[1, 1])


def test_an_infinite_reward_is_named_by_its_own_row():
    with pytest.raises(ValueError, match="row 2 is inf"):
        gs.advantage([0.0, 0.0, np.inf], [0, 0, 0], rollouts=[1, 1, 2])


def test_as_many_ids_as_rows_are_needed_and_none_is_null():
    with pytest.raises(ValueError, match="2 ids of rollouts for 3 rows"):
        gs.advantage([0.0, 0.0, 1.0], [0, 0, 0], rollouts=[1, 1])
    with pytest.raises(ValueError, match="row 1"):
        gs.advantage([0.0, 0.0, 1.0], [0, 0, 0], rollouts=[1, None, 2])


def test_without_ids_each_row_is_a_rollout():
    groups = gs.Groups(["a", "b", "a"])
    found = sequences_of(groups)
    assert found.groups is groups
    assert found.firsts.tolist() == found.codes.tolist() == [0, 1, 2]
