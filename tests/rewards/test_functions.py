import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from gspo_rs.rewards import load, score
from gspo_rs.rewards.functions import RewardError

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
