"""Logged completions: every one that was sampled, once, whatever happened to the run."""

import json

import numpy as np
import polars as pl
import pytest

from fixtures.runs import make
from gspo_rs import advantage
from gspo_rs.train import metrics, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import load

pytestmark = pytest.mark.usefixtures("one_thread")


def ran(folder, letters, *overrides, resume=False, **settings):
    path = make(folder, letters, log_completions=True, **settings)
    return train(load(path, list(overrides)), resume=resume, quiet=True)


def logged(folder):
    return pl.read_parquet(folder / "run" / "completions" / "*.parquet").sort("step", "prompt_id")


def test_every_step_has_its_completions_with_the_rewards_of_its_metrics(letters, tmp_path):
    ran(tmp_path, letters)
    rows = logged(tmp_path)
    records = [r for r in metrics.read(tmp_path / "run" / "metrics.jsonl") if r["step"] > 0]
    # The last batch was sampled for two steps, and the run has one of them.
    assert sorted(rows["step"].unique()) == [*(r["step"] for r in records), 10]
    for record in records:
        some = rows.filter(pl.col("step") == record["step"])
        assert len(some) == 16
        assert some["prompt_id"].n_unique() == 2
        assert some["reward"].mean() == pytest.approx(record["reward/mean"], rel=1e-12)
        assert some["length"].mean() == pytest.approx(record["length/mean"])
        assert some["truncated"].mean() == pytest.approx(record["length/clipped_frac"])
        assert np.allclose(some["advantage"], advantage(some["reward"], some["prompt_id"]))
        assert some.group_by("prompt_id").agg(pl.col("prompt").n_unique())["prompt"].max() == 1


def test_a_resumed_run_has_the_completions_of_one_that_was_not_stopped(letters, tmp_path):
    ran(tmp_path / "whole", letters)
    stopped = tmp_path / "stopped"
    ran(stopped, letters, "max_steps=5")
    # As if it had been killed after it had sampled on: a batch that is to be sampled again.
    folder = stopped / "run" / "completions"
    pl.DataFrame({"step": [99]}).write_parquet(folder / "completions_00099.parquet")
    ran(stopped, letters, resume=True)
    assert logged(stopped).equals(logged(tmp_path / "whole"))


def test_several_rewards_have_a_column_each_and_unscorable_ones_are_null(letters, tmp_path):
    text = "def one(completions, **_): return [1.0, None] * (len(completions) // 2)\n"
    text += "def two(completions, **_): return [0.5] * len(completions)\n"
    path = make(tmp_path, letters, reward_weights=[1.0, 1.0], max_steps=1, eval_size=0)
    (tmp_path / "reward.py").write_text(text)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("reward =")]
    both = json.dumps(["reward.py:one", "reward.py:two"])
    path.write_text("\n".join([*lines, f"reward = {both}", "log_completions = true"]))
    train(load(path), quiet=True)
    rows = logged(tmp_path)
    assert rows["reward_one"].null_count() == len(rows) // 2
    assert rows["reward_two"].unique().to_list() == [0.5]


def test_the_commands_read_what_was_logged(letters, tmp_path):
    import gspo_rs as gs

    ran(tmp_path, letters, max_steps=4)
    source = tmp_path / "run" / "completions"
    rows = logged(tmp_path)
    found = gs.stats(source, by="prompt_id")
    assert found[0].rows == len(rows)
    pairs = gs.pairs(source, by="prompt_id")
    best = rows.group_by("prompt_id").agg(pl.col("reward").max() > pl.col("reward").min())
    assert len(pairs) == best["reward"].sum()


def test_what_is_not_sampled_is_not_logged():
    with pytest.raises(ConfigError, match="log_completions writes what is sampled"):
        resolve(Config(model="m", rollouts="r", log_completions=True))
