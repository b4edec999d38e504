"""What a run leaves out or learns nothing from is counted and told, and does not end it."""

import numpy as np
import polars as pl
import pytest

from fixtures.runs import contents, make
from gspo_rs.train import plan, train
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.toml import load, placed
from gspo_rs.train.metrics import read

pytestmark = pytest.mark.usefixtures("one_thread")

ONE_BY_ONE = {
    "prompts_per_step": 1,
    "steps_per_generation": 1,
    "eval_size": 0,
    "shuffle_dataset": False,
}


def total(folder, name):
    return sum(record.get(name, 0) for record in read(folder / "run" / "metrics.jsonl"))


def prompts(folder, texts):
    pl.DataFrame({"prompt": texts}).write_ndjson(folder / "prompts.jsonl")


LONG = {"on_long": "drop", "max_prompt_length": 3, **ONE_BY_ONE}


def test_prompts_that_are_too_long_are_left_out_once_and_counted(letters, tmp_path, caplog):
    path = make(tmp_path, letters, **LONG, eval_prompts="prompts.jsonl", log_completions=True)
    path.write_text(path.read_text().replace("max_steps = 9\n", "").replace("eval_size = 0", ""))
    prompts(tmp_path, ["a" * 9, "b" * 9, "ab", "c" * 9, "cd"])
    # Two steps of one prompt each: the others are no part of an epoch.
    assert train(load(path)).steps == 2
    records = read(tmp_path / "run" / "metrics.jsonl")
    assert [record.get("dropped_prompts") for record in records] == [None, 3, 0]
    assert caplog.text.count("dropped 3 of 5 prompts: prompt of row 0 has 9 tokens") == 2
    kept = pl.read_parquet(tmp_path / "run" / "completions" / "*.parquet")
    assert kept["prompt"].unique(maintain_order=True).to_list() == ["ab", "cd"]
    before = contents(tmp_path / "run")
    assert train(load(path), resume=True).steps == 2
    assert contents(tmp_path / "run") == before


def test_a_prompt_that_is_too_long_is_refused_before_anything_is_sampled(letters, tmp_path):
    path = make(tmp_path, letters, **{**LONG, "on_long": "error"})
    prompts(tmp_path, ["ab"] * 7 + ["a" * 9])
    with pytest.raises(ValueError, match="prompt of row 7 has 9 tokens, the limit is 3; raise"):
        train(load(path))
    assert read(tmp_path / "run" / "metrics.jsonl") == []


def test_prompts_that_are_all_too_long_end_in_words(letters, tmp_path):
    path = make(tmp_path, letters, **LONG)
    prompts(tmp_path, ["a" * 9, "b" * 9])
    with pytest.raises(ConfigError, match="every prompt is too long, 2 in all"):
        train(load(path))
    with pytest.raises(ConfigError, match="every prompt is too long, 2 in all"):
        plan(load(path))


def test_a_rehearsal_counts_prompts_that_are_left_out(letters, tmp_path):
    path = make(tmp_path, letters, **LONG)
    prompts(tmp_path, ["a" * 9, "b" * 9, "ab"])
    found = plan(load(path))
    assert (found.groups, found.dropped["dropped_prompts"]) == (1, 2)


def scored(folder, lengths):
    """One group of two completions of each length."""
    n = 2 * len(lengths)
    texts = ["ab"[place % 2] * lengths[place // 2] for place in range(n)]
    frame = {"prompt_id": np.arange(n) // 2, "prompt": "abc", "completion": texts}
    pl.DataFrame({**frame, "reward": [0.0, 1.0] * len(lengths)}).write_parquet(
        folder / "scored.parquet"
    )


def test_a_batch_whose_rows_are_all_long_is_passed_over_and_counted(letters, tmp_path):
    path = make(tmp_path, letters, rollouts="scored.parquet", on_long="drop", **ONE_BY_ONE)
    scored(tmp_path, [4, 40, 5, 40])
    assert train(load(path, ["max_steps=4"])).steps == 4
    assert total(tmp_path, "dropped_long") == 4


def test_an_epoch_of_long_rows_ends_in_words(letters, tmp_path):
    path = make(tmp_path, letters, rollouts="scored.parquet", on_long="drop", **ONE_BY_ONE)
    scored(tmp_path, [40, 41, 42])
    with pytest.raises(ConfigError, match="every row of an epoch is too long"):
        train(load(path))


@pytest.mark.parametrize(
    ("estimator", "options", "flat"),
    [("pkpo", "{k = 4}", 3), ("percentile", "{}", 0), ("zscore", "{}", 0)],
)
def test_groups_whose_advantages_are_all_zero_are_counted_and_told(
    letters, tmp_path, caplog, estimator, options, flat
):
    path = make(tmp_path, letters, rollouts="scored.parquet", max_steps=1, prompts_per_step=3)
    more = f'advantage = "{estimator}"\nadvantage_options = {options}\n'
    path.write_text(path.read_text() + more)
    scored(tmp_path, [4, 5, 6])
    train(load(path))
    assert total(tmp_path, "zero_advantage_groups") == flat
    told = f"3 groups have a signal, but all their {estimator} advantages are 0"
    assert (told in caplog.text) == bool(flat)


@pytest.mark.parametrize("address", ["hf://datasets/a/b/*.parquet", "s3://bucket/x.parquet"])
def test_addresses_of_data_stay_addresses(address, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'model = "m"\nprompts = "{address}"\neval_prompts = "{address}"\nreward = "r.py:f"\n'
    )
    config = placed(load(tmp_path / "run.toml"), tmp_path)
    assert (config.prompts, config.eval_prompts) == (address, address)
    for given in (address, (address, "local.parquet")):
        found = placed(Config(model="m", rollouts=given), tmp_path).rollouts
        assert address in (found if isinstance(found, tuple) else (found,))
    (tmp_path / "off.toml").write_text(f'model = "m"\nrollouts = ["{address}"]\n')
    assert load(tmp_path / "off.toml").rollouts == (address,)
    assert load(tmp_path / "off.toml", [f"rollouts={address}"]).rollouts == address
