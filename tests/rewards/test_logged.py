"""What reward functions log: numbers and columns that are checked, or an error that names them."""

from decimal import Decimal

import numpy as np
import polars as pl
import pytest
import torch

from gspo_rs.rewards.functions import RewardError, score, scores

PROMPTS, COMPLETIONS = ["a", "b", "c"], ["x", "y", "z"]


def logged(function, **offered):
    found = scores({"judge": function}, PROMPTS, COMPLETIONS, offered=offered)
    return found.logged["judge"]


def test_values_of_every_library_are_numbers_of_python():
    def judge(prompts, completions, log_metric, log_extra):
        log_metric("right", torch.tensor(0.5))
        log_metric(name="right", value=np.bool_(True))
        log_metric("parts", Decimal("0.25"))
        log_metric("nothing", float("nan"))
        log_extra("words", np.array([1, 2, 3]))
        log_extra(column="known", values=pl.Series([True, None, False]))
        log_extra("said", (text for text in completions))
        log_extra("trace", [{"step": 1}, None, [2]])
        return torch.zeros(3)

    found = logged(judge)
    assert found.metrics["right"] == [0.5, 1.0]
    assert found.metrics["parts"] == [0.25]
    assert np.isnan(found.metrics["nothing"]).tolist() == [True]
    assert found.extra == {
        "words": [1.0, 2.0, 3.0],
        "known": [True, None, False],
        "said": ["x", "y", "z"],
        "trace": ['{"step": 1}', None, "[2]"],
    }
    assert [type(value) for value in found.extra["words"]] == [float] * 3


def test_a_function_that_works_in_parts_logs_in_parts_and_one_that_waits_logs_too():
    async def judge(completions, **given):
        for text in completions:
            given["log_extra"]("said", [text.upper()])
        given["log_metric"]("n", len(completions))
        return [0.0] * 3

    found = logged(judge)
    assert found.extra == {"said": ["X", "Y", "Z"]}
    assert found.metrics == {"n": [3.0]}


def test_a_generator_logs_while_it_is_read():
    def judge(completions, log_metric, **_):
        for text in completions:
            log_metric("ys", text == "y")
            yield 0.0

    assert logged(judge).metrics == {"ys": [0.0, 1.0, 0.0]}


def test_a_function_gets_only_what_its_signature_has_a_place_for():
    def judge(prompts, completions):
        return [0.0] * 3

    def told(prompts, completions, trainer_state):
        return [trainer_state] * 3

    assert logged(judge).metrics == {}
    assert score(told, PROMPTS, COMPLETIONS, offered={"trainer_state": 7}).tolist() == [7.0] * 3


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (lambda m, _: m("right", "much"), r"logged 'much' \(str\) as metric 'right'; a metric is"),
        (lambda m, _: m("right", None), r"logged None \(NoneType\) as metric 'right'"),
        (lambda m, _: m("right", float("inf")), r"logged inf \(float\) as metric 'right'"),
        (lambda m, _: m("right", [1.0]), r"logged \[1\.0\] \(list\) as metric 'right'"),
        (lambda m, _: m("right", 2**60 + 1), r"logged 1152921504606846977 \(int\) as metric"),
        (lambda m, _: m(3, 1.0), r"logged a metric with the name 3; give a text"),
        (lambda _, e: e(" ", [1, 2, 3]), r"logged a column with the name ' '; give a text"),
        (lambda _, e: e("n", [1, 2]), r"logged 2 values of column 'n' for 3 completions"),
        (lambda _, e: e("n", 1), r"logged a int as column 'n'; give a list"),
        (lambda _, e: e("n", "xyz"), r"logged a str as column 'n'; give a list"),
        (lambda _, e: e("n", [1, "x", None]), r"logged 1\.0 and 'x' in column 'n'"),
        (lambda _, e: e("n", [object] * 3), r"logged <class 'object'> \(type\) in column 'n'"),
        (
            lambda _, e: e("n", [2**60 + 1] * 3),
            r"logged 1152921504606846977 in column 'n', which float64",
        ),
    ],
)
def test_what_cannot_be_recorded_is_named_with_its_function(log, message):
    def judge(completions, log_metric, log_extra, **_):
        log(log_metric, log_extra)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=f"^reward function judge {message}"):
        logged(judge)


def test_nothing_is_logged_after_the_answer():
    kept = []

    def judge(completions, log_metric, **_):
        kept.append(log_metric)
        return [0.0] * len(completions)

    logged(judge)
    with pytest.raises(RewardError, match="judge called log_metric after it had answered"):
        kept[0]("late", 1.0)


def test_the_row_at_which_a_function_fails_is_found_though_it_logs():
    def judge(prompts, completions, log_metric, log_extra, trainer_state):
        log_metric("n", trainer_state)
        log_extra("n", completions)
        return [1 / (prompt != "b") for prompt in prompts]

    with pytest.raises(RewardError, match=r"ZeroDivisionError.*row 1, prompt 'b'"):
        logged(judge, trainer_state=2)


@pytest.mark.parametrize("name", ["trainer_state", "log_metric", "log_extra"])
def test_a_column_with_the_name_of_what_is_offered_is_named(name):
    with pytest.raises(RewardError, match=f"column '{name}' of the prompts cannot go to a reward"):
        score(lambda **_: [0, 0, 0], PROMPTS, COMPLETIONS, {name: [1, 2, 3]})
