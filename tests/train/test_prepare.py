"""A batch of rollouts is compared as a whole, and then cut into its steps."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fixtures.runs import configured
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches

SIZE = 3


def drawn(groups=5, seed=0):
    """Groups of three completions whose spread differs from group to group."""
    draw = np.random.default_rng(seed)
    n = groups * SIZE
    lengths = draw.integers(1, 8, n)
    spread = np.repeat(4.0 ** np.arange(groups), SIZE)
    rollouts = Rollouts(
        offsets=np.arange(groups + 1) * SIZE,
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=draw.integers(0, 5, n) * spread,
        prompt_tokens=Ragged.from_rows([[1]] * n, np.int64),
        completion_tokens=Ragged.from_rows([[2] * k for k in lengths], np.int64),
    )
    return RolloutBatch(rollouts, np.zeros(n, dtype=bool), {})


def advantages(batch, estimator, per_step):
    config = configured(advantage=estimator, prompts_per_step=per_step)
    return [cut.advantages for cut in minibatches(batch, config)]


@pytest.mark.parametrize("estimator", ["batch_std", "reinforce_pp", "gdpo"])
def test_what_compares_a_batch_sees_all_that_was_sampled_and_not_one_step(estimator):
    batch = drawn()
    rewards = batch.rollouts.reward.reshape(-1, SIZE)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if estimator == "batch_std":
        expected = centred / (rewards.std(ddof=1) + 1e-4)
    elif estimator == "reinforce_pp":
        expected = centred / (centred.std(ddof=1) + 1e-8)
    else:
        scores = centred / (rewards.std(axis=1, ddof=1, keepdims=True) + 1e-8)
        expected = scores / (scores.std(ddof=1) + 1e-8)
    found = advantages(batch, estimator, per_step=2)
    assert list(map(len, found)) == [6, 6, 3]
    assert_allclose(np.concatenate(found), expected.ravel(), rtol=1e-12)


@pytest.mark.parametrize("estimator", ["percentile", "zscore", "rloo", "maxrl", "borda"])
def test_what_compares_a_group_does_not_see_how_the_batch_is_cut(estimator):
    whole = np.concatenate(advantages(drawn(), estimator, per_step=5))
    for per_step in (1, 2, 4):
        assert_array_equal(np.concatenate(advantages(drawn(), estimator, per_step)), whole)
