"""Dynamic sampling: batches of groups with a signal, what is over, and the way back to both."""

import numpy as np
import polars as pl
import pytest

from fixtures.runs import make, records, weights
from gspo_rs import data
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.rollout.collect import derived_seed

pytestmark = pytest.mark.usefixtures("one_thread")

# Half of the groups of eight have a signal; draws from both generators, as rewards of others may.
RARE = """
import random
import numpy as np
def noisy(prompts, completions, **_):
    random.random(), np.random.random()
    return [float(text.count("a") > 1) for text in completions]
"""
SETTINGS = {"reward": RARE, "dynamic_sampling": True, "eval_size": 0, "max_steps": 6}


def sampled(monkeypatch):
    """Keep the rounds of a run: prompts, completions, tokens and log-probabilities."""
    from gspo_rs.train.rollout import collect

    rounds, sample = [], collect.sample

    def keep(*arguments, **named):
        rounds.append(sample(*arguments, **named))
        return rounds[-1]

    monkeypatch.setattr(collect, "sample", keep)
    return rounds


def informative(rollouts):
    """Which groups have two rewards, by counting."""
    rows = np.split(rollouts.reward, rollouts.offsets[1:-1])
    return [len(set(row)) > 1 for row in rows]


@pytest.mark.parametrize("old", ["auto", "recompute"])
def test_batches_are_filled_in_order_and_what_is_over_comes_first_in_the_next(
    letters, tmp_path, training_batches, monkeypatch, old
):
    rounds = sampled(monkeypatch)
    path = make(tmp_path, letters, old_logprobs=old, algorithm="grpo", **SETTINGS)
    train(load(path))
    # By enumeration: all groups of all rounds in order, without those of one reward.
    texts, logprobs = [], []
    for batch in rounds:
        found = batch.rollouts
        for group, kept in enumerate(informative(found)):
            rows = range(found.offsets[group], found.offsets[group + 1])
            if kept:
                texts.append([found.completion_tokens.row(row).tolist() for row in rows])
                logprobs.append([found.sampler_logprobs.row(row) for row in rows])
    assert len(training_batches) == 6
    trained = [step.completions.row(row).tolist() for step in training_batches for row in range(16)]
    assert trained == [row for group in texts[:12] for row in group]
    assert len(texts) > 12  # something is over
    # The old policy of each is the one that sampled it, of those that were over as well.
    for number, step in enumerate(training_batches):
        if step.old_logprobs is not None:
            theirs = [row for group in logprobs[2 * number : 2 * number + 2] for row in group]
            for row, expected in enumerate(theirs):
                np.testing.assert_allclose(step.old_logprobs.row(row), expected, atol=2e-5)
    lines = records(tmp_path / "run")
    used = [int(line["dynamic_sampling/rounds"]) for line in lines[::2]]
    assert sum(used) == len(rounds)
    assert max(used) > 1
    places = np.cumsum([0, *used])
    for line, first, last in zip(lines[::2], places[:-1], places[1:], strict=True):
        flags = [flag for batch in rounds[first:last] for flag in informative(batch.rollouts)]
        assert line["dynamic_sampling/thrown_frac"] == pytest.approx(1 - np.mean(flags))
        rewards = np.concatenate([batch.rollouts.reward for batch in rounds[first:last]])
        assert line["dynamic_sampling/reward"] == pytest.approx(rewards.mean())
        assert line["group/zero_variance_frac"] == 0


def test_the_prompts_of_a_round_are_those_that_it_has_without_dynamic_sampling(
    letters, tmp_path, monkeypatch
):
    rounds = sampled(monkeypatch)
    train(load(make(tmp_path, letters, **SETTINGS)))
    order = [
        row
        for epoch in range(99)
        for row in np.random.default_rng(derived_seed(3, "shuffle", epoch)).permutation(5)
    ]
    prompts = ["ab", "bc", "cd", "de", "ef"]
    for number, batch in enumerate(rounds):
        found = batch.rollouts.prompts[::8]
        assert found == [prompts[row] for row in order[4 * number : 4 * number + 4]]


@pytest.mark.slow
def test_a_run_that_stopped_anywhere_goes_on_bit_equal_with_what_was_over(letters, tmp_path):
    settings = {**SETTINGS, "max_steps": 8, "beta": 0.1}
    train(load(make(tmp_path / "whole", letters, **settings)))
    path = make(tmp_path / "short", letters, **settings)
    kept = []
    for stop in (1, 2, 5, 6):
        train(load(path, [f"max_steps={stop}"]), resume=stop > 1)
        names = checkpoint.read(checkpoint.steps(tmp_path / "short/run")[-1]).tensors
        kept.append(any(name.startswith("over/") for name in names))
    assert any(kept)
    train(load(path), resume=True)
    assert weights(tmp_path / "short/run/final") == weights(tmp_path / "whole/run/final")
    assert records(tmp_path / "short/run") == records(tmp_path / "whole/run")


@pytest.mark.parametrize(("most", "rounds"), [(0, 1), (2, 3)])
def test_after_the_last_round_a_batch_is_trained_on_as_it_is(
    letters, tmp_path, monkeypatch, caplog, most, rounds
):
    reward = "def noisy(prompts, completions, **_):\n    return [1.0] * len(completions)\n"
    found = sampled(monkeypatch)
    settings = {**SETTINGS, "reward": reward, "max_steps": 2, "max_resample": most}
    train(load(make(tmp_path, letters, **settings)))
    assert len(found) == rounds
    assert f"0 of 4 groups have a signal after {rounds} rounds; see max_resample" in caplog.text
    (first, second) = records(tmp_path / "run")
    assert first["dynamic_sampling/thrown_frac"] == 1
    assert first["seqs"] == second["seqs"] == 0
    before, after = weights(letters), weights(tmp_path / "run/final")
    assert before == after


def test_a_penalty_for_length_makes_no_signal(letters, tmp_path, monkeypatch):
    reward = "def noisy(prompts, completions, **_):\n    return [1.0] * len(completions)\n"
    sampled(monkeypatch)
    settings = {**SETTINGS, "reward": reward, "max_steps": 2, "max_resample": 0}
    train(load(make(tmp_path, letters, **settings, overlong_penalty="soft", overlong_cache=8)))
    assert records(tmp_path / "run")[0]["dynamic_sampling/thrown_frac"] == 1


def scattered():
    """Seven groups, three of which have one reward, in scattered rows."""
    draw = np.random.default_rng(0)
    ids = draw.permutation(np.repeat(np.arange(7), 4))
    rewards = np.where(np.isin(ids, [1, 4, 5]), 0.5, draw.random(28))
    texts = [f"text {row}" for row in range(28)]
    return pl.DataFrame({"prompt_id": ids, "prompt": "p", "completion": texts, "reward": rewards})


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("sort", [True, False])
def test_groups_without_signal_are_left_out_of_what_is_read(shuffle, sort):
    frame = scattered().sort("prompt_id") if sort else scattered()
    options = {"by": "prompt_id", "batch_groups": 2, "shuffle": shuffle, "informative": True}
    found = list(data.rollouts(frame, **options))
    ids = [key for batch in found for key in batch.group_ids]
    assert sorted(ids) == [0, 2, 3, 6]
    if not shuffle:
        first = frame["prompt_id"].unique(maintain_order=True).to_list()
        assert ids == [key for key in first if key in (0, 2, 3, 6)]
    texts = [text for batch in found for text in batch.completions]
    expected = [frame.filter(pl.col("prompt_id") == key)["completion"].to_list() for key in ids]
    assert texts == [text for group in expected for text in group]
    again = list(data.rollouts(frame, **options, start=1))
    assert [key for batch in again for key in batch.group_ids] == ids[1:]
    with pytest.raises(ValueError, match=r"start is 5, but .* has 4 groups with a signal"):
        data.rollouts(frame, **options, start=5)


def test_offline_an_epoch_is_of_the_groups_with_a_signal_and_resumes(letters, tmp_path):
    settings = {"rollouts": "scored.parquet", "dynamic_sampling": True, "max_steps": 5}
    runs = []
    for name, stops in (("whole", ()), ("short", (3,))):
        path = make(tmp_path / name, letters, **settings)
        scattered().write_parquet(tmp_path / name / "scored.parquet")
        for stop in stops:
            train(load(path, [f"max_steps={stop}"]))
        train(load(path), resume=bool(stops))
        runs.append((weights(tmp_path / name / "run/final"), records(tmp_path / name / "run")))
    assert runs[0] == runs[1]
    assert [line["seqs"] for line in runs[0][1]] == [8] * 5
    assert {line["dynamic_sampling/thrown_frac"] for line in runs[0][1]} == {1 - 4 / 7}
    config = load(tmp_path / "whole/run.toml")
    config = resolve(Config(model="m", rollouts=config.rollouts, algorithm="dapo"))
    assert Dataset.open(config).n_groups == 4


def test_data_without_any_signal_is_refused(tmp_path):
    frame = scattered().with_columns(reward=pl.lit(0.5))
    frame.write_parquet(tmp_path / "scored.parquet")
    config = resolve(Config(model="m", rollouts=f"{tmp_path}/scored.parquet", algorithm="dapo"))
    with pytest.raises(ConfigError, match=r"no group of .* has a signal"):
        Dataset.open(config)
