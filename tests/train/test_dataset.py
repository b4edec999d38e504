"""Names of columns that a reward function cannot be given: refused before anything is sampled."""

import dataclasses

import pytest

from gspo_rs.rewards import score
from gspo_rs.rewards.functions import RewardError
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.dataset import Dataset, with_columns
from gspo_rs.train.inputs import Inputs


@pytest.mark.parametrize("name", ["prompts", "completions"])
@pytest.mark.parametrize("key", ["prompts", "eval_prompts"])
def test_a_column_with_the_name_of_what_a_reward_function_is_given_is_refused_at_the_start(
    tmp_path, name, key
):
    (tmp_path / "good.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (tmp_path / "bad.jsonl").write_text(f'{{"prompt": "a", "{name}": "b"}}\n')
    given = {"prompts": str(tmp_path / "good.jsonl"), key: str(tmp_path / "bad.jsonl")}
    config = Config(model="m", reward="r.py:f", output_dir=str(tmp_path / "out"), **given)
    with pytest.raises(RewardError, match=rf"column '{name}' of .*bad\.jsonl .*; rename"):
        Dataset.open(config)


def test_the_column_of_the_prompts_may_have_any_name(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompts": "a", "answer": "b"}\n')
    source = str(tmp_path / "rows.jsonl")
    config = Config(
        model="m", reward="r.py:f", prompts=source, prompt="prompts", output_dir=str(tmp_path / "o")
    )
    assert Dataset.open(config).source.texts == ["a"]
    with pytest.raises(RewardError, match="column 'completions' of the prompts cannot go to"):
        score(lambda prompts, completions, **_: [0.0], ["p"], ["c"], {"completions": ["x"]})


VERL = {
    "step": [1] * 4,
    "input": ["a", "a", "b", "b"],
    "output": list("cdef"),
    "score": [0, 1, 1, 0],
}


def test_the_columns_of_a_known_schema_are_taken_where_nothing_is_given_and_said(caplog):
    config = Config(model="m", rollouts="memory://dict")
    with caplog.at_level("INFO"):
        found = with_columns(config, Inputs(rollouts=VERL))
    assert (found.by, found.prompt) == (("step", "input"), "input")
    assert (found.completion, found.reward_column) == ("output", "score")
    assert "read as a verl rollout dump: by step and input, reward score" in caplog.text
    assert Dataset.open(resolve(found), Inputs(rollouts=VERL)).n_groups == 2
    given = with_columns(dataclasses.replace(config, by="input"), Inputs(rollouts=VERL))
    assert (given.by, given.prompt) == ("input", "input")


def test_columns_that_are_there_under_their_usual_names_or_given_are_left_alone():
    rows = {"prompt_id": [1], "prompt": ["a"], "completion": ["b"], "reward": [1.0], "input": ["c"]}
    config = Config(model="m", rollouts="memory://dict")
    assert with_columns(config, Inputs(rollouts=rows)) is config
    given = Config(
        model="m", rollouts="r", by="x", prompt="p", completion="c", reward_column=("s", "t")
    )
    assert with_columns(given, Inputs(rollouts=VERL)) is given


def test_rows_that_nothing_says_the_groups_of_are_refused_with_their_columns():
    config = Config(model="m", rollouts="memory://dict")
    rows = {"question": ["a"], "completion": ["b"], "reward": [1.0]}
    with pytest.raises(ValueError, match=r"nothing says which rows are of one prompt; .*--by"):
        with_columns(config, Inputs(rollouts=rows))
