import shutil

import polars as pl
import pytest

from fixtures.graded import write_grades
from fixtures.runs import TWO_STEPS, make, weights
from gspo_rs.train import Config, train
from gspo_rs.train.config.config import ConfigError, resolve
from gspo_rs.train.config.toml import load

SETTINGS = {**TWO_STEPS, "max_completion_length": 8, "rollouts": "scored.parquet"}


def test_an_offline_run_learns_from_grades_what_it_learns_from_a_column(letters, tmp_path):
    whole = make(tmp_path / "whole", letters, **SETTINGS)
    train(load(whole))
    path = make(tmp_path / "graded", letters, **SETTINGS, grades="grades")
    scored = path.parent / "scored.parquet"
    frame = pl.read_parquet(scored)
    frame.drop("reward").write_parquet(scored)
    write_grades(path.parent / "grades", [scored], frame["reward"].to_list(), rows_per_part=50)
    train(load(path))
    assert weights(tmp_path / "graded/run/final") == weights(tmp_path / "whole/run/final")


def test_a_run_does_not_go_on_with_other_grades(letters, tmp_path):
    path = make(tmp_path / "run", letters, **SETTINGS, grades="grades")
    scored = path.parent / "scored.parquet"
    rewards = pl.read_parquet(scored)["reward"].to_list()
    write_grades(path.parent / "grades", [scored], rewards, rows_per_part=60)
    train(load(path))
    shutil.rmtree(path.parent / "grades")
    write_grades(path.parent / "grades", [scored], rewards[::-1], rows_per_part=60)
    with pytest.raises(ConfigError, match="rollouts"):
        train(load(path, ["max_steps=3"]), resume=True)


def test_grades_belong_to_offline_runs():
    config = Config(model="m", prompts="p.jsonl", reward="r.py:f", grades="out")
    with pytest.raises(ConfigError, match="grades are of `rollouts`"):
        resolve(config)
