"""Several rewards of scored completions, each by itself and as the sum that is compared."""

import numpy as np
import polars as pl
import pytest

from gspo_rs import data

SEVERAL = pl.DataFrame(
    {
        "id": [0, 1, 0, 1, 2, 2, 0],
        "prompt": "p",
        "completion": "c",
        "right": [1, 0, None, 1, 1, 0, 0],
        "short": [0.5, float("nan"), None, 0.25, 0.0, 1.0, 0.0],
    }
)


@pytest.mark.parametrize("shuffle", [False, True])
def test_several_reward_columns_come_each_by_itself_and_as_the_sum_that_an_estimator_takes(shuffle):
    options = {"reward": ["right", "short"], "reward_weights": [1.0, 2.0]}
    seen = {}
    for batch in data.rollouts(SEVERAL, by="id", batch_groups=2, shuffle=shuffle, **options):
        for g, (start, stop) in enumerate(zip(batch.offsets, batch.offsets[1:], strict=False)):
            rows = slice(start, stop)
            columns = [batch.reward, *batch.rewards.values()]
            seen[batch.group_ids[g]] = np.stack([column[rows] for column in columns])
        assert list(batch.rewards) == ["right", "short"]
    nan = np.nan
    np.testing.assert_array_equal(seen[0], [[2, nan, 0], [1, nan, 0], [0.5, nan, 0]])
    np.testing.assert_array_equal(seen[1], [[0, 1.5], [0, 1], [nan, 0.25]])
    np.testing.assert_array_equal(seen[2], [[1, 2], [1, 0], [0, 1]])


def test_a_group_is_counted_as_without_signal_by_the_sum_or_by_every_reward_that_has_a_weight():
    # Of group 2 the plain sum is 1 twice, though each of the rewards differs.
    def uninformative(**options):
        return data.index_groups(SEVERAL, by="id", reward=["right", "short"], **options)

    assert uninformative().n_uninformative == 1
    assert uninformative().n_unscorable == 1
    assert uninformative(reward_weights=[1.0, 2.0]).n_uninformative == 0
    assert uninformative(apart=True).n_uninformative == 0
    assert uninformative(apart=True, reward_weights=[0.0, 1.0]).n_uninformative == 1


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reward": ["right", "shrt"]}, ValueError, "no column 'shrt'; did you mean 'short'"),
        ({"reward": ["right", "prompt"]}, TypeError, "'prompt' .* is String; it must be a num"),
        ({"reward": ["right", "right"]}, ValueError, "name each column once"),
        ({"reward": []}, ValueError, "name each column once, and one at least"),
        (
            {"reward": ["right", "short"], "reward_weights": [1.0]},
            ValueError,
            r"weights are \[1.0\]; pass 2 finite numbers, one per reward",
        ),
        ({"reward": ["right", "far"]}, ValueError, "the reward 'far' is infinite at row 3"),
    ],
)
def test_what_is_wrong_with_one_of_several_rewards_is_told(options, error, words):
    far = pl.Series([0.0, 0.0, 0.0, float("inf"), 0.0, 0.0, 0.0])
    with pytest.raises(error, match=words):
        next(data.rollouts(SEVERAL.with_columns(far=far), by="id", **options))
