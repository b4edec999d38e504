import asyncio
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal

from gspo_rs.rewards import load, score
from gspo_rs.rewards.functions import RewardError, scores

PROMPTS = ["Say A.", "Say A.", "Say B."]
COMPLETIONS = ["A", "B", "B"]


def right(prompts, completions, answer):
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def test_a_reward_function_gets_prompts_completions_and_every_column_by_name():
    found = score(right, PROMPTS, COMPLETIONS, {"answer": ["A", "A", "B"]})
    assert_array_equal(found, [1.0, 0.0, 1.0])
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    "answer",
    [
        [1, None, float("nan")],
        (True, None, None),
        np.array([1.0, np.nan, np.nan], dtype=np.float32),
        [np.float32(1), np.nan, None],
        torch.tensor([1.0, float("nan"), float("nan")]),
        pd.Series([1, None, pd.NA], dtype="Int64"),
        [pd.NA if place else Decimal("1.0") for place in range(3)],
        pl.Series([1, None, None]),
        (1.0 if place == 0 else None for place in range(3)),
        [np.array(1), torch.tensor(float("nan")), np.array(np.nan)],
        [np.bool_(True), Decimal("NaN"), None],
        [Fraction(2, 2), None, float("nan")],
    ],
)
def test_none_and_nan_leave_a_completion_out_whatever_kind_of_list_has_them(answer):
    found = score(lambda **_: answer, PROMPTS, COMPLETIONS)
    assert_array_equal(found, [1.0, np.nan, np.nan])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1.0, 0.0], r"constant answered 2 rewards for 3 completions, .*'Say A.'"),
        ([1.0, "good", 0.0], r"constant answered 'good' \(str\) for row 1, prompt 'Say A.'"),
        ([1.0, 0.0, float("inf")], r"constant answered inf for row 2, prompt 'Say B.'"),
        ([1.0, float("-inf"), 0.0], r"constant answered -inf for row 1, prompt 'Say A.'"),
        ([1.0, [2.0], 0.0], r"constant answered \[2.0\] \(list\) for row 1"),
        (None, "constant answered a NoneType, not a list of rewards"),
        (0.5, "constant answered a float, not a list of rewards"),
        ("abc", "constant answered a str, not a list of rewards"),
        ({0: 1.0, 1: 0.0, 2: 0.0}, "constant answered a dict, not a list of rewards"),
        ({1.0, 2.0, 0.0}, "constant answered a set, not a list of rewards"),
        ([1.0, 2**53 + 1, 0.0], r"answered 9007199254740993 for row 1, .* float64 would round it"),
        ([1.0, Decimal("0.1234567890123456"), 0.0], r"answered Decimal.* float64 would round it"),
        ([1.0, Decimal("Infinity"), 0.0], "answered inf for row 1"),
    ],
)
def test_an_answer_that_is_no_list_of_finite_rewards_is_refused_by_name(answer, message):
    def constant(**_):
        return answer

    with pytest.raises(RewardError, match=message):
        score(constant, PROMPTS, COMPLETIONS)


def test_an_exception_in_a_reward_function_names_the_function_and_the_prompt_that_raised_it():
    def fussy(prompts, completions):
        return [1 / (prompt != "Say B.") for prompt in prompts]

    with pytest.raises(RewardError, match=r"fussy raised ZeroDivisionError.*row 2.*'Say B\.'") as e:
        score(fussy, PROMPTS, COMPLETIONS)
    assert isinstance(e.value.__cause__, ZeroDivisionError)


def test_an_exception_that_only_the_whole_batch_raises_is_told_as_one():
    def small(prompts, completions):
        if len(prompts) > 1:
            raise MemoryError("too many")
        return [0.0]

    with pytest.raises(RewardError, match=r"too many; on 3 rollouts together, .* none"):
        score(small, PROMPTS, COMPLETIONS)


def test_a_reward_function_is_loaded_from_the_file_or_module_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "statistics.py").write_text("def half(prompts, completions): return [0.5]\n")
    monkeypatch.chdir(tmp_path)
    assert score(load("statistics.py:half"), ["a"], ["b"]).tolist() == [0.5]
    # A file of the same name as an installed module is not taken for it.
    assert load("statistics:fmean")([1.0, 3.0]) == 2.0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rewards", "'module:function' or 'folder/file.py:function'"),
        ("rewards.py:", "'module:function' or 'folder/file.py:function'"),
        ("absent.py:half", "absent.py' does not exist in"),
        ("absent_module:half", "'absent_module' is not installed"),
        ("rewards.py:hlaf", "no function hlaf there; it has half"),
        ("rewards.py:LIMIT", "LIMIT is a int, not a function"),
    ],
)
def test_a_reward_that_cannot_be_found_is_told_with_what_is_there(
    spec, message, tmp_path, monkeypatch
):
    (tmp_path / "rewards.py").write_text("LIMIT = 3\ndef half(**_): return [0.5]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RewardError, match=message):
        load(spec)


def test_an_error_inside_a_reward_file_is_its_own(tmp_path):
    (tmp_path / "broken.py").write_text("import json\njson.loads('{')\n")
    with pytest.raises(ValueError, match="Expecting property name"):
        load(f"{tmp_path}/broken.py:half")


def test_functions_that_wait_do_it_together_and_each_gets_its_own_answers():
    arrived = []

    async def waiting(completions, **_):
        arrived.append(len(arrived))
        while len(arrived) < 2:  # it goes on once the other is there
            await asyncio.sleep(0)
        return [float(completion == "A") for completion in completions]

    async def other(completions, **_):
        return [0.5 + one for one in await waiting(completions)]

    functions = {"waiting": waiting, "other": other, "right": lambda **_: [1, 2, 3]}
    found = scores(functions, PROMPTS, COMPLETIONS)
    assert {name: list(one) for name, one in found.rewards.items()} == {
        "waiting": [1, 0, 0],
        "other": [1.5, 0.5, 0.5],
        "right": [1, 2, 3],
    }


def test_a_function_that_waits_may_be_asked_while_another_loop_runs():
    async def half(completions, **_):
        return [0.5] * len(completions)

    async def notebook():
        return score(half, PROMPTS, COMPLETIONS).tolist()

    assert asyncio.run(notebook()) == [0.5] * 3


def test_an_exception_of_a_function_that_waits_or_yields_names_its_row():
    async def waiting(prompts, **_):
        return [1 / (prompt != "Say B.") for prompt in prompts]

    def yielding(prompts, **_):
        return (1 / (prompt != "Say B.") for prompt in prompts)

    for function in (waiting, yielding):
        with pytest.raises(RewardError, match=r"raised ZeroDivisionError.*row 2.*'Say B\.'"):
            score(function, PROMPTS, COMPLETIONS)


def test_tokens_go_to_a_function_whose_signature_has_a_place_for_them():
    offered = {"completion_ids": [[5], [6, 7], [8]]}

    def named(completion_ids, **_):
        return [len(ids) for ids in completion_ids]

    def open_to_all(**given):
        return [float("completion_ids" in given)] * 3

    for function, expected in ((named, [1, 2, 1]), (open_to_all, [1, 1, 1])):
        assert score(function, PROMPTS, COMPLETIONS, offered=offered).tolist() == expected
    columns = {"answer": ["A", "A", "B"]}
    assert score(right, PROMPTS, COMPLETIONS, columns, offered=offered).tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", ["prompts", "completions", "completion_ids"])
def test_a_column_with_the_name_of_an_argument_is_named(name):
    with pytest.raises(RewardError, match=f"column '{name}' of the prompts cannot go to a reward"):
        score(lambda **_: [0, 0, 0], PROMPTS, COMPLETIONS, {name: [1, 2, 3]})
