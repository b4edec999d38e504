"""Workers that grade what is sampled while the next completions are drawn."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fixtures.runs import make, records, weights
from fixtures.waiting import wait_until
from gspo_rs.rewards.pooled import PooledFunction
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.rollout import collect
from gspo_rs.train.rollout.graded_ahead import at_once
from gspo_rs.train.rollout.samplers import EngineSampler, sampling_of
from gspo_rs.train.world import ALONE, World

pytestmark = pytest.mark.usefixtures("one_thread")

# Both draw, and log for some rows only; the first leaves a mark for each row that it has begun.
REWARDS = """
import os, random, time
def noisy(completions, log_metric, log_extra, trainer_state, **_):
    (text,) = completions
    open(os.path.join(os.path.dirname(__file__), "begun"), "a").write("x")
    if "a" in text:
        log_metric("at", trainer_state.global_step + len(text))
        log_extra("seen", [text.upper()])
    return [text.count("b") + random.random()]
def other(completions, completion_ids, **_):
    return [sum(completion_ids[0]) * random.random()]
def stuck(completions, **_):
    open(os.path.join(os.path.dirname(__file__), "begun"), "a").write("x")
    time.sleep(600)
"""
# Completions of six prompts a batch, those of one at a time.
SETTINGS = {"reward": REWARDS, "reward_workers": 2, "reward_timeout": 600.0, "eval_size": 0}
SETTINGS |= {"prompts_per_step": 3, "num_generations": 4, "generation_batch": 4}


def run(folder, letters, **settings):
    path = make(folder, letters, **{**SETTINGS, **settings})
    both = [f"{folder}/reward.py:noisy", f"{folder}/reward.py:other"]
    train(replace(load(path, ["log_completions=true"]), reward=both), quiet=True)
    rows = pl.read_parquet(folder / "run" / "completions" / "*.parquet")
    return rows, records(folder / "run"), weights(folder / "run" / "final")


@pytest.mark.slow
def test_a_run_has_the_same_bits_as_one_that_samples_everything_before_it_grades(
    letters, tmp_path, monkeypatch
):
    sizes = []
    sample = EngineSampler.sample

    def counted(self, prompts, **options):
        sizes.append(len(prompts))
        return sample(self, prompts, **options)

    monkeypatch.setattr(EngineSampler, "sample", counted)
    rows, metrics, end = run(tmp_path / "ahead", letters)
    assert {*sizes} == {1}
    sizes.clear()
    monkeypatch.setattr(collect, "at_once", lambda *given: given[-1])
    other_rows, other_metrics, other_end = run(tmp_path / "after", letters)
    assert {*sizes} == {6}
    assert rows.equals(other_rows, null_equal=True)
    assert rows["seen"].null_count() > 0
    assert metrics == other_metrics
    assert end == other_end


def test_a_row_is_graded_while_the_next_are_sampled(letters, tmp_path, monkeypatch):
    sample, calls = EngineSampler.sample, []

    def waiting(self, prompts, **options):
        if calls:
            wait_until((tmp_path / "begun").exists)
        calls.append(len(prompts))
        return sample(self, prompts, **options)

    monkeypatch.setattr(EngineSampler, "sample", waiting)
    train(load(make(tmp_path, letters, **SETTINGS, max_steps=1)), quiet=True)
    assert {*calls} == {1}
    assert len(calls) > 2


def test_a_sampler_that_fails_does_not_wait_for_rows_that_hang(letters, tmp_path, monkeypatch):
    sample, calls = EngineSampler.sample, []

    def failing(self, prompts, **options):
        if calls:
            wait_until((tmp_path / "begun").exists)
            raise OSError("no more")
        calls.append(len(prompts))
        return sample(self, prompts, **options)

    monkeypatch.setattr(EngineSampler, "sample", failing)
    path = make(tmp_path, letters, **SETTINGS, max_steps=1)
    with pytest.raises(OSError, match="no more"):
        train(load(path, [f"reward={tmp_path}/reward.py:stuck"]), quiet=True)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 2),
        ({"generation_batch": 3}, 1),
        ({"reward_workers": 0}, 7),
        ({"generation_batch": None}, 7),
        ({"on_long": "drop"}, 7),
        ({"max_staleness": 1}, 7),
    ],
)
def test_prompts_are_sampled_apart_only_where_something_can_be_graded_meanwhile(settings, size):
    given = {"reward_workers": 1, "generation_batch": 9, "num_generations": 4, **settings}
    config = resolve(Config(model="m", prompts="p", reward="m:f", **given))
    reward = PooledFunction(None, "f", "error") if config.reward_workers else np.mean
    assert at_once(sampling_of(None, config), {"f": reward}, config, ALONE, 7) == size
    assert at_once(sampling_of(None, config), {"f": reward}, config, World(0, 2), 7) == 7
