"""Offline the clip of a sequence ratio: a warning where it is narrow, and none where it is wide."""

import warnings

import pytest

from fixtures.runs import make
from gspo_rs.train import Config, train
from gspo_rs.train.config.config import resolve
from gspo_rs.train.config.toml import load
from gspo_rs.train.metrics import read
from gspo_rs.train.watch import warn_of_narrow_clip

ONLINE = {"prompts": "p", "reward": "r.py:f"}
OFFLINE = {"rollouts": "r"}
WIDE = {"clip_low": 0.2, "clip_high": 0.2}


def said(caplog, **fields):
    warn_of_narrow_clip(resolve(Config(model="m", **fields)))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({}, "clip_low = 0.0003, clip_high = 0.0004"),
        ({"algorithm": "gspo"}, "clip_low = 0.0003, clip_high = 0.0004"),
        ({"algorithm": "gspo_token"}, "clip_low = 0.0003, clip_high = 0.0004"),
        ({"algorithm": "topx"}, "clip_low = 0.0003, clip_high = 0.0004"),
        ({"algorithm": "luspo"}, "clip_low = 0.002, clip_high = 0.0025"),
        ({"algorithm": "grpo", "loss": "gspo"}, "clip_low = 0.0003, clip_high = 0.0004"),
        ({"algorithm": "gspo", "clip_high": 0.02}, "clip_low = 0.0003, clip_high = 0.02"),
        ({"algorithm": "gspo", "old_logprobs_column": "l"}, "clip_low = 0.0003"),
    ],
)
def test_a_narrow_clip_of_sequence_ratios_is_warned_of_offline(fields, values, caplog):
    (message,) = said(caplog, **OFFLINE, **fields)
    assert message.startswith(values)
    assert message.endswith("set clip_low = 0.2 and clip_high = 0.2")


@pytest.mark.parametrize(
    "fields",
    [
        {**ONLINE, "algorithm": "gspo"},
        {**OFFLINE, "algorithm": "gspo", **WIDE},
        {**OFFLINE, "algorithm": "luspo", **WIDE},
        {**OFFLINE, "algorithm": "grpo"},
        {**OFFLINE, "algorithm": "sapo"},
        {**OFFLINE, "algorithm": "gmpo"},
        {**OFFLINE, "algorithm": "dpo"},
        {**OFFLINE, "algorithm": "qrpo"},
    ],
)
def test_no_clip_is_warned_of_where_it_stops_nothing(fields, caplog):
    assert not said(caplog, **fields)


def trained(tmp_path, letters, **fields):
    settings = {"rollouts": "scored.parquet", "eval_size": 0, "save_steps": 0, **fields}
    config = load(make(tmp_path, letters, **settings))
    return read(train(config, quiet=True).metrics_file)


def test_the_warning_comes_before_anything_is_read(letters, tmp_path, caplog):
    with pytest.raises(FileNotFoundError):
        trained(tmp_path, letters, algorithm="gspo", rollouts="absent.parquet")
    assert "clip_low = 0.0003, clip_high = 0.0004: offline" in caplog.text


def test_with_the_clip_that_the_warning_names_an_offline_run_is_warned_of_nothing(
    letters, tmp_path, caplog
):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trained(tmp_path, letters, algorithm="gspo", max_steps=2, **WIDE)
    assert "clip" not in caplog.text


def test_offline_a_narrow_clip_stops_what_a_wide_one_does_not(letters, tmp_path):
    settings = {"algorithm": "gspo", "prompts_per_step": 15, "steps_per_generation": 1}
    settings |= {"max_steps": 6, "learning_rate": 1e-3}
    narrow = trained(tmp_path / "narrow", letters, **settings)
    wide = trained(tmp_path / "wide", letters, **settings, **WIDE)
    assert narrow[-1]["clip/token"] > 0.9 > 0.2 > wide[-1]["clip/token"]
