"""Columns of other tools, known by their names: what is taken, said, and refused."""

import polars as pl
import pytest

from gspo_rs.data.known_schemas import SCHEMAS, columns_of
from gspo_rs.data.source import locate

SAID = [{"role": "user", "content": "2+2="}]
# Rows as each tool writes them.
ROWS = {
    # GRPOTrainer with log_completions: a column for each reward function, by its name.
    "TRL log": {
        "step": 5,
        "prompt": "2+2=",
        "completion": "4",
        "accuracy_reward": 1.0,
        "advantage": 0.5,
    },
    "TRL": {"prompt": SAID, "completion": SAID, "reward": 1.0},
    "verl dump": {"input": "2+2=", "output": "4", "gts": "4", "score": 1.0, "step": 1},
    "verl data": {
        "data_source": "openai/gsm8k",
        "prompt": SAID,
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "4"},
        "extra_info": {"index": 0},
        "responses": ["4", "5"],
        "scores": [1.0, 0.0],
    },
    "OpenRLHF": {"input": "2+2=", "output": "4", "reward": 0.5},
    "OpenRLHF lists": {"input": "2+2=", "output": ["4", "5"], "reward": [0.5, 0.0]},
    "slime": {
        "group_index": 0,
        "index": 3,
        "prompt": "2+2=",
        "response": "4",
        "response_length": 1,
        "label": "4",
        "reward": 1,
        "status": "completed",
    },
    "slime with a key": {
        "group_index": 0,
        "index": 3,
        "prompt": "2+2=",
        "response": "4",
        "reward": {"score": 1.0, "pred": "4"},
    },
    "distilabel": {
        "instruction": "2+2=",
        "generations": ["4", "5"],
        "generation_models": ["a", "b"],
        "ratings": [5, 1],
        "rationales": ["good", "bad"],
        "model_name": "judge",
    },
    "lists": {"prompt": "2+2=", "completions": ["4", "5"], "rewards": [1.0, 0.0]},
}
# by, reward, prompt, completion, model, and what is said.
TAKEN = {
    "TRL log": (("step", "prompt"), "accuracy_reward", "prompt", "completion", None),
    "TRL": (("prompt",), "reward", "prompt", "completion", None),
    "verl dump": (("step", "input"), "score", "input", "output", None),
    "verl data": (None, "scores", "prompt", "responses", None),
    "OpenRLHF": (("input",), "reward", "input", "output", None),
    "OpenRLHF lists": (None, "reward", "input", "output", None),
    "slime": (("group_index",), "reward", "prompt", "response", None),
    "slime with a key": (("group_index",), "reward.score", "prompt", "response", None),
    "distilabel": (None, "ratings", "instruction", "generations", "generation_models"),
    "lists": (None, "rewards", "prompt", "completions", None),
}


def located(*rows):
    return locate(pl.DataFrame(list(rows)))


def taken(source, by=None, reward=None, **others):
    parts = {"prompt": None, "completion": None, "model": None, **others}
    found = columns_of(source, by, reward, **parts)
    return found.by, found.reward, found.prompt, found.completion, found.model


@pytest.mark.parametrize("name", ROWS)
def test_the_columns_of_a_tool_are_known(name):
    assert taken(located(ROWS[name])) == TAKEN[name]


@pytest.mark.parametrize("name", ROWS)
def test_what_is_given_is_taken_as_it_is(name):
    given = {"prompt": "my prompt", "completion": "my completion", "model": "my model"}
    found = taken(located(ROWS[name]), "my id", "my reward", **given)
    assert found == (("my id",), "my reward", *given.values())
    assert columns_of(located(ROWS[name]), "my id", "my reward", **given).said is None


def test_every_schema_is_shown_by_some_rows():
    known = {schema for schema in SCHEMAS for row in ROWS.values() if {*schema.has} <= {*row}}
    assert known == {*SCHEMAS}


def test_what_was_taken_is_said_and_logged(caplog):
    with caplog.at_level("INFO", "gspo_rs"):
        found = columns_of(located(ROWS["verl dump"]), None, None)
    assert found.said == "read as a verl rollout dump: by step and input, reward score"
    assert caplog.messages == [found.said]
    texts = columns_of(located(ROWS["distilabel"]), None, None, prompt=None, completion=None)
    assert texts.said == (
        "read as generations of distilabel: reward ratings, prompt instruction, "
        "completion generations"
    )


def test_an_older_dump_without_a_step_is_grouped_by_its_input():
    row = {name: value for name, value in ROWS["verl dump"].items() if name != "step"}
    assert taken(located(row))[0] == ("input",)


def test_nothing_known_and_nothing_given_lists_the_columns():
    source = located({"question": "2+2=", "reward": 1.0})
    words = r"nothing says which rows are of one prompt; name .* --by \(by=…\)\. It has 'question'"
    with pytest.raises(ValueError, match=words):
        columns_of(source, None, None)
    assert taken(source, "question") == (("question",), "reward", None, None, None)


def test_a_row_of_lists_is_a_group_without_a_schema():
    found = columns_of(located({"question": "2+2=", "reward": [1.0, 0.0]}), None, None)
    assert (found.by, found.said) == (None, None)
    samples = columns_of(located({"samples": [{"reward": 1.0}]}), None, "samples.reward")
    assert samples.by is None


@pytest.mark.parametrize("name", ["prompt_id", "group_id"])
def test_a_prompt_and_an_id_of_it_are_ambiguous(name):
    with pytest.raises(ValueError, match=rf"'prompt', '{name}' could name the group .* --by"):
        columns_of(located({**ROWS["TRL"], name: 1}), None, None)


def test_two_schemas_that_differ_are_ambiguous_with_both_candidates():
    row = {**ROWS["verl dump"], "reward": 0.0}
    words = (
        r"several ways, with reward score \(a verl rollout dump\) or reward \(samples of OpenRLHF\)"
    )
    with pytest.raises(ValueError, match=words):
        columns_of(located(row), None, None)
    with pytest.raises(ValueError, match=r"with by step and input \(a verl .*\) or input \(sam"):
        columns_of(located(row), None, "score")
    assert taken(located(row), "input", "score") == (("input",), "score", "input", "output", None)


def test_several_reward_functions_or_fields_are_ambiguous():
    log = {**ROWS["TRL log"], "format_reward": 0.0}
    with pytest.raises(ValueError, match="the rewards 'accuracy_reward', 'format_reward'; name"):
        columns_of(located(log), None, None)
    row = {**ROWS["slime"], "reward": {"score": 1.0, "acc": True, "pred": "4"}}
    with pytest.raises(ValueError, match=r"has the numbers 'reward\.score', 'reward\.acc'; name"):
        columns_of(located(row), None, None)
    none = {**ROWS["slime"], "reward": {"pred": "4"}}
    with pytest.raises(ValueError, match="column 'reward' of the DataFrame has no number; name"):
        columns_of(located(none), None, None)


def test_a_log_of_completions_with_its_sum_takes_that():
    log = {**ROWS["TRL log"], "format_reward": 0.0, "reward": 1.0}
    assert taken(located(log))[1] == "reward"


def test_a_reward_of_fields_is_taken_apart_only_in_a_known_schema():
    source = located({"question": "2+2=", "reward": {"score": 1.0}})
    assert taken(source, "question")[1] == "reward"
