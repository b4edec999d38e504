"""Runs whose reward functions are called in processes of their own."""

from collections import Counter
from dataclasses import replace

import polars as pl
import pytest

from fixtures.hostile_fates import (
    FATES,
    HARMLESS,
    HOSTILE,
    SEEN,
    USABLE,
    check,
    running,
    unusable,
)
from fixtures.runs import make
from gspo_rs.rewards.errors import GradingError
from gspo_rs.rewards.workers import STATUSES
from gspo_rs.train import Config, metrics, train
from gspo_rs.train.config.config import ConfigError, resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.rollout.policy_sampler import PolicySampler

pytestmark = pytest.mark.usefixtures("one_thread")

# Draws, logs, and ends its process at completions of more than one "a".
REWARD = """
import os, random
import numpy as np
def noisy(completions, trainer_state, log_metric, log_extra, **_):
    (text,) = completions
    if text.count("a") > 1:
        os._exit(3)
    log_metric("at", trainer_state.global_step)
    log_extra("seen", [text.upper()])
    return [text.count("b") + random.random() / 99 + np.random.random() / 99]
"""
SETTINGS = {"reward": REWARD, "on_reward_failure": "none", "reward_timeout": 600.0, "max_steps": 4}


def lines(folder):
    """The metrics of a run without those of its clock and of comparisons."""
    return [
        {k: v for k, v in record.items() if not k.startswith(("time/", "speed/", "eval/"))}
        for record in metrics.read(folder / "run" / "metrics.jsonl")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", USABLE)
def test_rows_that_end_a_worker_have_no_reward_and_are_counted(letters, tmp_path, sandbox):
    settings = {**SETTINGS, "reward_workers": 2, "log_completions": True}
    settings |= {"reward_sandbox": sandbox}
    settings |= {"max_steps": 2, "eval_size": 1}
    train(load(make(tmp_path, letters, **settings)), quiet=True)
    rows = pl.read_parquet(tmp_path / "run" / "completions" / "*.parquet")
    died = rows["completion"].str.count_matches("a") > 1
    assert died.any()
    assert rows["reward"].is_null().to_list() == died.to_list()
    upper = [text.upper() for text in rows["completion"]]
    assert rows["seen"].to_list() == [None if d else u for d, u in zip(died, upper, strict=True)]
    first, *steps = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert sum(first[f"eval/reward/status/{one}"] for one in STATUSES) == 8
    for record in steps:
        batch = rows.filter(pl.col("step").is_in([s := (record["step"] - 1) // 2 * 2 + 1, s + 1]))
        of_batch = int((batch["completion"].str.count_matches("a") > 1).sum())
        counts = {one: record[f"reward/status/{one}"] for one in STATUSES}
        others = dict.fromkeys(STATUSES, 0.0)
        assert counts == others | {"ok": len(batch) - of_batch, "died": of_batch}


class Scripted:
    """Samples tokens as the default does, and says of each group one text and a number."""

    def __init__(self, config, texts):
        self.config, self.texts = config, texts

    def sample(self, prompts, *, places, seed):
        sampler = PolicySampler(self.policy, self.config, seed, numbers=places.tolist())
        found = sampler.generate(prompts.texts)
        said = [text for place in places for text in (self.texts[place], f"{place / 8}")]
        return replace(found, completions=said)

    def refresh(self, policy, version):
        self.policy = policy

    def close(self):
        pass


BWRAP = [pytest.mark.soak, pytest.mark.skipif(bool(unusable("bwrap")), reason="no bubblewrap")]


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["process", pytest.param("bwrap", marks=BWRAP)])
@pytest.mark.usefixtures("ctrl_c")  # which a worker inherits
def test_a_hostile_row_has_its_status_in_training_and_no_process_is_left(
    letters, tmp_path, monkeypatch, sandbox
):
    monkeypatch.setenv("LC_TEST", mark := f"hostile-{tmp_path}")
    monkeypatch.setenv("OPENAI_SECRET", "s3cr3t")
    texts = [*FATES, *HARMLESS, *SEEN]
    settings = {"reward_workers": 2, "reward_timeout": 8.0, "reward_sandbox": sandbox}
    settings |= {"prompts_per_step": len(texts), "num_generations": 2, "max_steps": 1}
    settings |= {"steps_per_generation": 1, "eval_size": 0, "max_completion_length": 2}
    settings |= {"on_reward_failure": "none", "log_completions": True}
    path = make(tmp_path, letters, **settings)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "ab"}\n' * len(texts))
    config = replace(load(path), reward=HOSTILE)
    record = train(config, sampler=Scripted(resolve(config), texts), quiet=True).metrics
    assert not running(mark)
    rows = pl.read_parquet(tmp_path / "run" / "completions" / "*.parquet")
    said = dict(zip(rows["completion"], rows["reward"], strict=True))
    assert len(said) == 2 * len(texts) >= 60
    for text, reward in said.items():
        status, words = FATES.get(text, ("ok", ""))
        error = words if isinstance(words, str) else words[0]  # of a row the run keeps no more
        check(text, status, error, reward)
    counts = Counter(FATES.get(text, ("ok", ""))[0] for text in said)
    assert {one: record[f"reward/status/{one}"] for one in STATUSES} == {
        one: float(counts[one]) for one in STATUSES
    }


@pytest.mark.slow
def test_a_run_that_is_resumed_with_other_workers_draws_what_an_unbroken_one_does(
    letters, tmp_path
):
    settings = {**SETTINGS, "reward": REWARD.replace("os._exit(3)", "raise"), "eval_size": 0}
    train(load(make(tmp_path / "whole", letters, reward_workers=1, **settings)), quiet=True)
    path = make(tmp_path / "cut", letters, reward_workers=1, **settings)
    train(load(path, ["max_steps=2"]), quiet=True)
    train(load(path, ["reward_workers=2"]), quiet=True, resume=True)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_row_that_fails_stops_the_run_by_its_name(letters, tmp_path):
    settings = {**SETTINGS, "on_reward_failure": "error"}
    message = "function noisy: died, the process exited with code 3; row .*, completion '.*a.*a"
    with pytest.raises(GradingError, match=message):
        train(load(make(tmp_path, letters, reward_workers=2, **settings)), quiet=True)


def test_a_function_in_memory_is_refused_with_the_remedy(letters, tmp_path):
    config = load(make(tmp_path, letters, reward_workers=2))
    with pytest.raises(ConfigError, match=r"reward len is a function in memory.* = 0$"):
        train(config, reward=len)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward_workers": -1}, "reward_workers = -1: must be at least 0"),
        ({"reward_workers": 1, "reward_timeout": 0.0}, "reward_timeout = 0.0: must be above 0"),
        ({"reward_timeout": 5.0}, "reward_timeout = 5.0: is of reward_workers"),
        ({"reward_sandbox": "bwrap"}, "reward_sandbox = 'bwrap': is of reward_workers"),
        ({"on_reward_failure": "none"}, "on_reward_failure = 'none': is of reward_workers"),
        ({"rollouts": "r", "prompts": None, "reward_workers": 2}, "offline the rewards are in"),
    ],
)
def test_settings_without_an_effect_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config(**{"model": "m", "prompts": "p", **fields}))
