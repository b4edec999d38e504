"""Metrics: numbers against NumPy, and a file that has each step once."""

import math

import numpy as np
import pytest

from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train.evaluate import compare
from gspo_rs.train.metrics import MetricsFile, describe, read
from gspo_rs.train.step.minibatch import prepare, standing_of

REWARDS = [0.0, 1.0, 0.5, 2.0, 2.0, math.nan, 3.0, 1.0]


def make(rewards=REWARDS, lengths=(1, 2, 3, 4, 5, 6, 0, 8), **fields):
    n = len(rewards)
    return Rollouts(
        offsets=np.array([0, 3, 6, n]),
        prompts=["p"] * n,
        completions=["c"] * n,
        reward=np.array(rewards),
        prompt_tokens=Ragged.from_rows([[1]] * n, np.int64),
        completion_tokens=Ragged.from_rows([[2] * k for k in lengths], np.int64),
        **fields,
    )


def test_rewards_are_split_into_what_is_within_and_between_groups():
    found = describe(prepare(make(), standing_of(make(), "mean", {})))
    scored = np.array([r for r in REWARDS if not math.isnan(r)])
    groups = [scored[:3], scored[3:5], scored[5:]]
    within = np.concatenate([group - group.mean() for group in groups])
    assert found["reward/mean"] == pytest.approx(scored.mean())
    assert found["reward/std"] == pytest.approx(scored.std())
    assert found["reward/within_std"] == pytest.approx(within.std())
    assert found["reward/between_std"] == pytest.approx(np.std([g.mean() for g in groups]))
    assert found["adv/mean"] == pytest.approx(0, abs=1e-15)
    assert found["group/zero_variance_frac"] == pytest.approx(1 / 3)


def test_what_is_left_out_of_training_is_counted_by_its_reason():
    too_long = np.zeros(8, dtype=bool)
    too_long[1] = True
    minibatch = prepare(
        make(), standing_of(make(), "percentile", {}, too_long=too_long), too_long=too_long
    )
    # Rows 3 to 5 have no signal (and row 5 no reward), 1 is too long, 6 is empty.
    assert minibatch.trained.tolist() == [0, 2, 7]
    assert minibatch.counted.tolist() == [True, False, True, True, True, False, False, True]
    assert dict(minibatch.dropped) == {
        "dropped_groups": 1,
        "dropped_unscorable": 1,
        "dropped_long": 1,
        "dropped_empty": 1,
        "dropped_truncated": 0,
    }
    # What is too long leaves its group: the advantages of the others still sum to zero.
    assert minibatch.advantages[1] == 0
    assert minibatch.advantages[0] == -minibatch.advantages[2] < 0


def test_renormalising_leaves_groups_without_signal_out_of_the_denominator():
    minibatch = prepare(make(), standing_of(make(), "percentile", {}), renormalise=True)
    assert np.flatnonzero(minibatch.counted).tolist() == minibatch.trained.tolist()


def test_each_step_is_in_the_file_once_after_a_resume_and_numbers_are_finite(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, after=-1)
    for step in range(1, 6):
        file.write(step, {"loss": step / 10, "nothing": math.nan})
    file.close()
    with path.open("a") as handle:
        handle.write('{"step": 6, "lo')
    with pytest.warns(UserWarning, match="unfinished"):
        again = MetricsFile(path, after=3)
    again.write(4, {"loss": -1.0})
    again.close()
    assert read(path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
        {"step": 3, "loss": 0.3},
        {"step": 4, "loss": -1.0},
    ]
    path.write_text('broken\n{"step": 1}\n')
    with pytest.raises(ValueError, match="line 1: not JSON"):
        read(path)


def test_the_percentile_is_the_share_of_the_pool_that_is_beaten_ties_half():
    draw = np.random.default_rng(0)
    rewards, pool = draw.integers(0, 4, (5, 6)) * 1.0, draw.integers(0, 4, (5, 7)) * 1.0
    rewards[1, 2] = pool[3, 4] = np.nan
    shares = [
        np.mean([(q < r) + 0.5 * (q == r) for q in rivals if not math.isnan(q)])
        for row, rivals in zip(rewards, pool, strict=True)
        for r in row
        if not math.isnan(r)
    ]
    found = compare(rewards, pool)
    assert found["eval/percentile"] == pytest.approx(np.mean(shares))
    assert found["eval/start_reward"] == pytest.approx(np.nanmean(pool))
    assert compare(pool, pool)["eval/percentile"] == 0.5
