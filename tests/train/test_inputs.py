"""Data, models and functions in memory: the run is that of the files with the same content."""

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.runs import records, share_of_a, weights
from gspo_rs.train import checkpoint, plan, train
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.inputs import Inputs, separate
from gspo_rs.train.model.policy import PolicyError

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [{"prompt": text, "letter": text[0]} for text in ("ab", "bc", "cd", "de", "ef", "fg")]
ROLLOUTS = [
    {"prompt_id": f"g{group}", "prompt": "abc", "completion": text, "reward": float(reward)}
    for group in range(4)
    for reward, text in enumerate(("abc", "bca", "cab", "aab"))
]
CONTAINERS = {
    "list of rows": list,
    "dict of columns": lambda rows: pl.DataFrame(rows).to_dict(as_series=False),
    "DataFrame": pl.DataFrame,
    "LazyFrame": pl.LazyFrame,
    "pandas": pd.DataFrame,
    "Arrow": pa.Table.from_pylist,
    "datasets": datasets.Dataset.from_list,
}
FIELDS = {
    "max_completion_length": 6,
    "num_generations": 4,
    "prompts_per_step": 2,
    "steps_per_generation": 1,
    "max_steps": 4,
    "learning_rate": 1e-2,
    "eval_size": 0,
    "save_steps": 1,
    "save_total_limit": 9,
    "seed": 3,
}


@pytest.fixture
def fields(letters, tmp_path):
    """Make the fields of a run of a second, with an output folder of its own."""

    def make(name, **others):
        return {"model": str(letters), "output_dir": str(tmp_path / name), **FIELDS, **others}

    return make


@pytest.fixture
def loaded(letters):
    """Load the model and its tokenizer anew."""

    def load():
        model = AutoModelForCausalLM.from_pretrained(letters, dtype=torch.float32)
        return {"model": model, "tokenizer": AutoTokenizer.from_pretrained(letters)}

    return load


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompts", "rollouts"])
def test_data_in_memory_train_what_the_file_of_them_trains(fields, tmp_path, kind):
    rows = PROMPTS if kind == "prompts" else ROLLOUTS
    how = {"reward": share_of_a} if kind == "prompts" else {}
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    train(**fields("file", max_steps=2), **{kind: tmp_path / "rows.parquet"}, **how)
    for name, make in CONTAINERS.items():
        train(**fields(name, max_steps=2), **{kind: make(rows)}, **how)
        assert weights(tmp_path / name / "final") == weights(tmp_path / "file/final"), name


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_split_of_a_data_set_is_the_data_set_of_its_rows(fields, tmp_path, where):
    parts = {"train": ROLLOUTS, "test": ROLLOUTS[:8]}
    splits = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in parts.items()}
    )
    splits.save_to_disk(tmp_path / "splits")
    rollouts = splits if where == "memory" else tmp_path / "splits"
    train(**fields("split", max_steps=2), rollouts=rollouts, split="test")
    train(**fields("rows", max_steps=2), rollouts=parts["test"])
    assert weights(tmp_path / "split/final") == weights(tmp_path / "rows/final")
    with pytest.raises((ValueError, TypeError), match=r"train.*test"):
        train(**fields("none"), rollouts=rollouts)


def test_prompts_and_held_out_prompts_may_be_splits_of_one_data_set(fields):
    splits = {"train": PROMPTS, "test": PROMPTS[:2]}
    splits = datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    )
    found = plan(
        **fields("run"),
        prompts=splits,
        split="train",
        eval_prompts=splits,
        eval_split="test",
        reward=share_of_a,
    )
    assert found.groups == len(PROMPTS)


def test_fields_alone_say_what_a_config_says(fields, tmp_path):
    train(**fields("fields"), prompts=PROMPTS, reward=[share_of_a])
    config = Config(**fields("config", seed=9, prompts="none.parquet"))
    output = {"output_dir": str(tmp_path / "config")}
    train(config, prompts=PROMPTS, reward=share_of_a, seed=3, **output)
    assert weights(tmp_path / "fields/final") == weights(tmp_path / "config/final")


def test_further_columns_of_rows_in_memory_go_to_the_reward_function(fields):
    seen = []

    def of_letter(completions, letter, **_):
        seen.extend(letter)
        return [float(text.count(own)) for text, own in zip(completions, letter, strict=True)]

    train(**fields("run", max_steps=1), prompts=PROMPTS, reward=of_letter)
    assert set(seen) <= {row["letter"] for row in PROMPTS}
    assert len(seen) == 8


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_model_in_memory_is_trained_in_place_to_the_weights_of_its_folder(
    fields, loaded, tmp_path, beta
):
    how = {"prompts": PROMPTS, "reward": share_of_a, "num_iterations": 2, "beta": beta}
    train(**fields("folder"), **how)
    held = loaded()
    train(**{**fields("memory"), **held}, **how)
    assert weights(tmp_path / "memory/final") == weights(tmp_path / "folder/final")
    assert records(tmp_path / "memory") == records(tmp_path / "folder")
    final = AutoModelForCausalLM.from_pretrained(tmp_path / "memory/final").state_dict()
    assert all(
        torch.equal(final[name], value) for name, value in held["model"].state_dict().items()
    )


def test_adapters_of_a_model_in_memory_are_those_of_its_folder(fields, loaded, tmp_path):
    how = {"prompts": PROMPTS, "reward": share_of_a, "lora_r": 2, "beta": 0.1}
    train(**fields("folder"), **how)
    train(**{**fields("memory"), **loaded()}, **how)
    assert weights(tmp_path / "memory/final") == weights(tmp_path / "folder/final")


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"beta": 0.1}, {"lora_r": 2}])
def test_a_run_in_memory_goes_on_bit_equal_when_the_same_is_given_again(
    fields, loaded, tmp_path, how
):
    train(**{**fields("whole"), **loaded()}, prompts=PROMPTS, reward=share_of_a, **how)
    for stop in (2, 4):
        given = {**fields("short", max_steps=stop), **loaded(), **how}
        train(**given, prompts=pd.DataFrame(PROMPTS), reward=share_of_a, resume=stop > 2)
    assert weights(tmp_path / "short/final") == weights(tmp_path / "whole/final")


def test_without_a_reference_a_run_goes_on_with_the_model_that_it_has_trained(
    fields, loaded, tmp_path
):
    how = {"prompts": PROMPTS, "reward": share_of_a}
    train(**fields("whole"), **how)
    held = loaded()
    train(**{**fields("short", max_steps=2), **held}, **how)
    train(**{**fields("short"), **held}, **how, resume=True)
    assert weights(tmp_path / "short/final") == weights(tmp_path / "whole/final")


def test_a_reference_that_has_been_trained_meanwhile_is_refused(fields, loaded):
    how = {"prompts": PROMPTS, "reward": share_of_a, "beta": 0.1}
    held = loaded()
    train(**{**fields("run", max_steps=2), **held}, **how)
    with pytest.raises(ConfigError, match=r"has not the weights .* started from.*load it anew"):
        train(**{**fields("run"), **held}, **how, resume=True)


@pytest.mark.parametrize("kind", ["prompts", "rollouts"])
def test_other_data_in_memory_than_before_are_refused_by_their_content(fields, kind):
    how = {"reward": share_of_a} if kind == "prompts" else {}
    rows = PROMPTS if kind == "prompts" else ROLLOUTS
    key = "letter" if kind == "prompts" else "completion"
    train(**fields("run", max_steps=2), **{kind: rows}, **how)
    other = [*rows[:-1], {**rows[-1], key: "x"}]
    with pytest.raises(ConfigError, match=rf"{kind} = 'memory://list' changed .* not the same"):
        train(**fields("run"), **{kind: other}, **how, resume=True)
    train(**fields("run"), **{kind: pl.LazyFrame(rows)}, **how, resume=True)


def test_what_was_in_memory_is_asked_for_again(fields, tmp_path):
    train(**fields("run", max_steps=2), prompts=PROMPTS, reward=share_of_a)
    (*_, last) = checkpoint.steps(tmp_path / "run")
    config = checkpoint.read(last).config
    with pytest.raises(ConfigError, match=r"prompts = 'memory://list' .* train\(…, prompts=…\)"):
        train(config, reward=share_of_a, resume=True)


def adapted(held):
    return {**held, "model": get_peft_model(held["model"], LoraConfig(target_modules="all-linear"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: {**held, "tokenizer": None}, "needs its tokenizer"),
        (
            lambda held: {**held, "model": held["model"].bfloat16()},
            r"give model\.float\(\), or set",
        ),
        (lambda held: {**held, "model": torch.nn.Linear(1, 1)}, "Linear is no causal language mod"),
        (lambda held: {**held, "model": held["model"].model}, "is no causal language model"),
        (adapted, "has adapters already"),
        (lambda held: {**held, "attn_implementation": "eager"}, "that of the model given"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_the_remedy(fields, loaded, change, message):
    with pytest.raises(PolicyError, match=message):
        train(**{**fields("run"), **change(loaded())}, prompts=PROMPTS, reward=share_of_a)


def test_a_tokenizer_in_memory_takes_the_place_of_the_models_own(fields, loaded, tmp_path):
    tokenizer = loaded()["tokenizer"]
    train(**fields("run", max_steps=1), prompts=PROMPTS, reward=share_of_a, tokenizer=tokenizer)
    train(**fields("own", max_steps=1), prompts=PROMPTS, reward=share_of_a)
    assert weights(tmp_path / "run/final") == weights(tmp_path / "own/final")
    few = AutoTokenizer.from_pretrained(tmp_path / "own/final")
    few.add_tokens(["a new token"])
    with pytest.raises(PolicyError, match=r"knows \d+ tokens, its tokenizer \d+"):
        train(**fields("new"), prompts=PROMPTS, reward=share_of_a, tokenizer=few)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ConfigError, "no model is given; give a Config, or model=…"),
        ({"model": "m", "lr": 1}, TypeError, "no field `lr`; did you mean `learning_rate`"),
        ({"model": "m", "seed": "1"}, ConfigError, r"train\(\): seed = '1': expected an integer"),
        ({"model": "m", "dry_run": True}, TypeError, "no field `dry_run`"),
    ],
)
def test_wrong_fields_of_a_call_are_named(given, error, message):
    with pytest.raises(error, match=message):
        train(**given)


def test_names_go_to_the_configuration_and_things_beside_it():
    frame = pl.DataFrame(PROMPTS)
    config, inputs = separate(
        None,
        {"model": "m", "prompts": frame, "reward": ["a:f", "b.py:g"], "tokenizer": None},
        {"by": ["a", "b"]},
    )
    assert config == Config(
        model="m", prompts="memory://polars.DataFrame", reward=("a:f", "b.py:g"), by=("a", "b")
    )
    assert inputs == Inputs(prompts=frame)
    assert inputs.given == ["prompts"]


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_one_row_per_prompt_with_lists_trains_what_one_row_per_completion_does(
    fields, tmp_path, where
):
    flat = pl.DataFrame(ROLLOUTS)
    lists = flat.group_by("prompt_id", "prompt", maintain_order=True).agg("completion", "reward")
    lists = lists.drop("prompt_id")
    lists.write_parquet(tmp_path / "lists.parquet")
    rollouts = lists if where == "memory" else tmp_path / "lists.parquet"
    train(**fields("lists", max_steps=2), rollouts=rollouts)
    train(**fields("rows", max_steps=2), rollouts=flat)
    assert weights(tmp_path / "lists/final") == weights(tmp_path / "rows/final")
