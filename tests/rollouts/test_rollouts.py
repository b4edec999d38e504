import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.rollouts.arrays import arrays_of, rollouts_of
from gspo_rs.rollouts.rollouts import joined, summed

rows = st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=9)


@settings(deadline=None)
@given(rows, st.data())
def test_rows_of_a_ragged_array_are_the_lists_that_made_it(rows, data):
    ragged = Ragged.from_rows(rows, np.int64)
    assert [ragged.row(i).tolist() for i in range(len(ragged))] == rows
    picks = st.lists(st.integers(0, len(rows) - 1)) if rows else st.just([])
    picked = data.draw(picks)
    found = ragged.rows(picked)
    assert [found.row(i).tolist() for i in range(len(found))] == [rows[i] for i in picked]
    assert found.values.dtype == np.int64


def test_a_ragged_row_can_be_counted_from_the_end_and_not_beyond():
    ragged = Ragged.from_rows([[1], [2, 3]], np.float32)
    assert ragged.row(-1).tolist() == [2.0, 3.0]
    with pytest.raises(IndexError):
        ragged.row(2)


@pytest.mark.parametrize("lengths", [[1, 1], [4], [5, -2]])
def test_lengths_that_do_not_cut_the_values_are_refused(lengths):
    with pytest.raises(ValueError, match="do not cut values of shape"):
        Ragged(np.arange(3), np.array(lengths))


def five_rollouts(**fields):
    tokens = Ragged.from_rows([[1], [], [2, 3], [4], [5, 6, 7]], np.int64)
    whole = {
        "offsets": np.array([0, 2, 3, 5]),
        "prompts": list("aabcc"),
        "completions": list("vwxyz"),
        "reward": np.array([0.0, 1.0, np.nan, 3.0, 4.0]),
        "completion_tokens": tokens,
        "old_logprobs": Ragged(-tokens.values.astype(np.float32), tokens.lengths),
        "truncated": np.array([False, True, False, False, True]),
        "group_ids": [10, 20, 30],
    }
    return Rollouts(**{**whole, **fields})


@pytest.mark.parametrize("groups", [[2, 0], np.array([2, 0])])
def test_selected_groups_keep_every_field_of_every_row(groups):
    found = five_rollouts().select(groups)
    assert_array_equal(found.offsets, [0, 2, 4])
    assert found.prompts == list("ccaa")
    assert found.completions == list("yzvw")
    assert_array_equal(found.reward, [3.0, 4.0, 0.0, 1.0])
    assert found.completion_tokens.values.tolist() == [4, 5, 6, 7, 1]
    assert found.completion_tokens.lengths.tolist() == [1, 3, 1, 0]
    assert_array_equal(found.old_logprobs.values, [-4, -5, -6, -7, -1])
    assert found.truncated.tolist() == [False, True, False, True]
    assert found.group_ids == [30, 10]
    assert found.prompt_tokens is None


def test_selected_groups_keep_each_of_several_rewards():
    rewards = {"right": np.arange(5.0), "short": np.arange(5.0) / 4}
    found = five_rollouts(**summed(rewards, [1.0, 8.0])).select([2, 0])
    assert found.rewards["right"].tolist() == [3, 4, 0, 1]
    assert found.rewards["short"].tolist() == [0.75, 1, 0, 0.25]
    assert found.reward.tolist() == [9, 12, 0, 3]
    with pytest.raises(ValueError, match=r"rewards\['short'\] has 4 entries, expected 5"):
        five_rollouts(rewards={**rewards, "short": np.arange(4.0)})


def test_a_single_reward_without_a_weight_stays_the_array_that_it_is():
    reward = np.array([-0.0, 1.0])
    assert summed({"right": reward})["reward"] is reward
    assert "rewards" not in summed({"right": reward})
    assert summed({"right": reward}, [2.0])["reward"].tolist() == [0, 2]


def test_groups_can_be_selected_by_a_mask_and_all_left_out():
    assert five_rollouts().select([False, True, False]).completions == ["x"]
    nothing = five_rollouts().select([False, False, False])
    assert (nothing.n_rollouts, nothing.n_groups, nothing.prompts) == (0, 0, [])
    assert five_rollouts().select([]).n_groups == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"offsets": np.array([0, 2, 2, 5])}, "offsets must rise strictly from 0"),
        ({"offsets": np.array([1, 5])}, "offsets must rise strictly from 0"),
        ({"prompts": list("aabc")}, "prompts has 4 entries, expected 5"),
        ({"reward": np.zeros(6)}, "reward has 6 entries, expected 5"),
        ({"group_ids": [1]}, "group_ids has 1 entries, expected 3"),
        (
            {"completion_tokens": None, "sampler_logprobs": Ragged.from_rows([[]] * 5, np.float32)},
            "sampler_logprobs belong to completion_tokens",
        ),
        (
            {"old_logprobs": Ragged.from_rows([[1], [], [2], [4], [5, 6, 7]], np.float32)},
            "old_logprobs of row 2 has 1 values for 2 tokens",
        ),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused_by_name(fields, words):
    with pytest.raises(ValueError, match=words):
        five_rollouts(**fields)


def test_parts_that_are_joined_are_the_whole_that_they_were_selected_from():
    lengths = np.array([1, 0, 2, 1, 3])
    logprobs = Ragged(np.linspace(-1, 0, 7, dtype=np.float32), lengths)
    mask = Ragged(np.array([True, False, True, True, False, True, True]), lengths)
    whole = five_rollouts(old_logprobs=logprobs, completion_mask=mask, rewards={"a": np.ones(5)})
    found = joined([whole.select([0, 1]), whole.select([2])])
    assert_array_equal(found.offsets, whole.offsets)
    assert_array_equal(found.reward, whole.reward)
    assert found.completions == whole.completions
    assert_array_equal(found.rewards["a"], np.ones(5))
    for name in ("completion_tokens", "old_logprobs", "completion_mask"):
        assert_array_equal(getattr(found, name).values, getattr(whole, name).values)
        assert_array_equal(getattr(found, name).lengths, lengths)


def test_a_part_without_a_mask_has_sampled_all_and_one_without_another_field_is_refused():
    plain = five_rollouts()
    lengths = plain.completion_tokens.lengths
    masked = five_rollouts(completion_mask=Ragged(np.zeros(7, dtype=bool), lengths))
    assert joined([plain, masked]).completion_mask.values.tolist() == [True] * 7 + [False] * 7
    with pytest.raises(ValueError, match="old_logprobs is there in 1 of 2 parts"):
        joined([plain, five_rollouts(old_logprobs=None)])


def test_versions_of_tokens_are_kept_with_their_rows_and_are_one_for_each_token():
    tokens = Ragged.from_rows([[5, 6], [7]], np.int64)
    versions = Ragged.from_rows([[3, 4], [4]], np.int64)
    given = {
        "offsets": np.array([0, 1, 2]),
        "prompts": ["p", "q"],
        "completions": ["a", "b"],
        "reward": np.zeros(2),
        "completion_tokens": tokens,
    }
    some = Rollouts(**given, policy_versions=versions)
    assert_array_equal(some.select([1]).policy_versions.values, [4])
    assert_array_equal(joined([some, some]).policy_versions.values, [3, 4, 4, 3, 4, 4])
    assert_array_equal(rollouts_of(arrays_of(some)).policy_versions.values, [3, 4, 4])
    with pytest.raises(ValueError, match="policy_versions of row 0 has 1 values for 2 tokens"):
        Rollouts(**given, policy_versions=Ragged.from_rows([[3], [4]], np.int64))
