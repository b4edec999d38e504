"""Long and truncated completions: what is added to their rewards, and what leaves the loss."""

import numpy as np
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from fixtures.runs import configured, make
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.metrics import describe, read
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.prepare import minibatches
from gspo_rs.train.step.training_batch import TrainingBatch

LENGTHS = [2, 16, 18, 20, 19, 20, 3, 4]  # of two groups, under a limit of 20
REWARDS = [0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]


def batch(truncated=None):
    n = len(LENGTHS)
    rollouts = Rollouts(
        offsets=np.array([0, 4, 8]),
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=np.array(REWARDS),
        prompt_tokens=Ragged.from_rows([[1]] * n, np.int64),
        completion_tokens=Ragged.from_rows([[2] * k for k in LENGTHS], np.int64),
        truncated=truncated,
    )
    return RolloutBatch(rollouts, np.zeros(n, dtype=bool), {})


def cut(rollout_batch, **fields):
    fields = {"advantage": "mean", "max_completion_length": 20, **fields}
    (found,) = minibatches(rollout_batch, configured(**fields))
    return found


def equation_13(length, longest, cache):
    if length <= longest - cache:
        return 0.0
    return ((longest - cache) - length) / cache if length <= longest else -1.0


@pytest.mark.parametrize("cache", [None, 1, 6, 20])
def test_the_penalty_of_the_paper_is_added_before_groups_are_compared(cache):
    found = cut(batch(), overlong_penalty="soft", overlong_cache=cache)
    # By default a fifth of the limit, as 4096 of 20480.
    penalty = [equation_13(length, 20, cache or 4) for length in LENGTHS]
    shaped = np.array(REWARDS).reshape(2, 4) + np.reshape(penalty, (2, 4))
    expected = shaped - shaped.mean(axis=1, keepdims=True)
    assert_allclose(found.advantages, expected.ravel(), atol=1e-15)
    assert_array_equal(found.rollouts.reward, REWARDS)  # what is measured stays
    measured = describe(found)
    assert measured["reward/mean"] == np.mean(REWARDS)
    assert measured["reward/overlong_penalty"] == np.mean(penalty)
    # A loss of groups orders its members by the same.
    compared = TrainingBatch.of(found, None, 20).rewards
    assert_array_equal(compared, shaped.ravel()[found.trained])


def test_the_penalty_is_that_of_trl():
    trl = pytest.importorskip("trl.rewards")
    theirs = trl.get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=6)
    expected = theirs(completion_ids=[[2] * length for length in LENGTHS])
    found = cut(batch(), overlong_penalty="soft", overlong_cache=6)
    assert_allclose(found.penalty, expected, atol=1e-15)


def test_without_a_penalty_nothing_is_added():
    assert cut(batch()).penalty is None
    assert "reward/overlong_penalty" not in describe(cut(batch()))


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("renormalise", [True, False])
def test_what_was_cut_off_is_out_of_the_loss_and_in_the_statistics(marked, renormalise):
    truncated = np.array([length == 20 for length in LENGTHS])
    rewards = np.array(REWARDS)
    fields = {"mask_truncated": True, "renormalise": renormalise, "reduction": "token_mean"}
    # Without a column, what has all the tokens that it may have was cut off.
    found = cut(batch(truncated if marked else None), **fields)
    assert_array_equal(found.advantages[:4], rewards[:4] - rewards[:4].mean())
    assert found.trained.tolist() == [0, 1, 2]  # 3 was cut off, the second group has no signal
    assert found.dropped["dropped_truncated"] == 2
    denominator = sum(LENGTHS[:3]) if renormalise else sum(LENGTHS)
    weights = TrainingBatch.of(found, "token_mean", 20).weights
    torch.testing.assert_close(weights, torch.full((3,), 1 / denominator, dtype=weights.dtype))


def test_with_a_pull_to_the_start_what_was_cut_off_is_not_pulled():
    truncated = np.array([length == 20 for length in LENGTHS])
    found = cut(batch(truncated), mask_truncated=True, beta=0.1)
    assert found.trained.tolist() == [0, 1, 2, 4, 6, 7]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"overlong_cache": 3}, "overlong_cache = 3: belongs to overlong_penalty = 'soft'"),
        (
            {"overlong_penalty": "soft", "overlong_cache": 300},
            "overlong_cache = 300: must be at most max_completion_length, 256",
        ),
        ({"overlong_penalty": "soft", "overlong_cache": 0}, "overlong_cache = 0: must be at"),
        ({"algorithm": "dapo", "advantage": "gdpo"}, "overlong_penalty = 'soft': is added to one"),
    ],
)
def test_a_penalty_that_cannot_be_is_refused_with_the_remedy(fields, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config(model="m", rollouts="r", **fields))


def test_dapo_has_the_recipe_of_its_paper_and_each_of_it_can_be_set():
    more = ("overlong_cache", "dynamic_sampling", "mask_truncated", "renormalise")
    names = ("overlong_penalty", *more)
    config = resolve(Config(model="m", rollouts="r", algorithm="dapo", max_completion_length=20480))
    assert [getattr(config, name) for name in names] == ["soft", 4096, True, False, False]
    given = {"overlong_penalty": "none", "dynamic_sampling": False}
    given |= {"mask_truncated": True, "renormalise": True}
    other = resolve(Config(model="m", rollouts="r", algorithm="dapo", **given))
    assert [getattr(other, name) for name in names] == ["none", None, False, True, True]
    grpo = resolve(Config(model="m", rollouts="r", algorithm="grpo"))
    assert [getattr(grpo, name) for name in names] == ["none", None, False, False, False]


def test_a_run_logs_what_length_took_off_and_how_many_were_cut_off(letters, tmp_path):
    settings = {"algorithm": "dapo", "eval_size": 0, "max_steps": 2, "log_completions": True}
    settings |= {"mask_truncated": True}
    train(load(make(tmp_path, letters, **settings)))
    (first, second) = read(tmp_path / "run" / "metrics.jsonl")
    kept = pl.read_parquet(tmp_path / "run" / "completions" / "*.parquet")
    for step, record in enumerate((first, second), start=1):
        rows = kept.filter(pl.col("step") == step)
        penalty = [equation_13(length, 8, 1) for length in rows["length"]]
        assert rows["overlong_penalty"].to_list() == penalty
        assert record["reward/overlong_penalty"] == pytest.approx(np.mean(penalty))
        assert record["dropped_truncated"] == rows["truncated"].sum() > 0
