"""Reward functions that a pool of workers calls, beside those that are called in this process."""

import math
import random
from pathlib import Path

import pytest

from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.functions import scores
from gspo_rs.rewards.pooled import pooled_functions, take_counts
from gspo_rs.rewards.workers import STATUSES

TRL = """
import random
def seen(prompts, completions, answer, completion_ids, trainer_state, log_metric, log_extra, **_):
    (prompt,), (text,), (right,), (ids,) = prompts, completions, answer, completion_ids
    log_metric("length", len(text))
    if text != "b":
        log_extra("both", [prompt[0]["content"] + text])
        log_extra("ids", [ids])
    return [right + trainer_state.global_step + len(ids)]

def history(trainer_state, **_):
    return [len(trainer_state.log_history)]

def drawn(completions, **_):
    return [random.random()]

async def waits(completions, **_):
    return [float(len(completions[0]))]

def fails(completions, **_):
    return [1 / len(completions[0])]
"""


class State:
    def __init__(self):
        self.global_step, self.metrics_file, self.secret = 100, Path("metrics.jsonl"), object()


def rows(n=3):
    prompts = [[{"role": "user", "content": f"p{i}"}] for i in range(n)]
    completions = ["a", "b", "ccc", "", "eeeee"][:n]
    offered = {"completion_ids": [[7] * i for i in range(n)], "trainer_state": State()}
    return prompts, completions, {"answer": [0.5 + i for i in range(n)]}, offered


@pytest.fixture
def pooled(tmp_path):
    (tmp_path / "trl.py").write_text(TRL)
    made = []

    def make(*names, size=1, on_failure="none", timeout=60.0):
        specs = {name: f"{tmp_path / 'trl.py'}:{name}" for name in names}
        functions = pooled_functions(specs, size, timeout=timeout, on_failure=on_failure)
        made.append(functions[names[0]].workers)
        return functions

    yield make
    for workers in made:
        workers.close()


def test_a_pooled_function_gets_and_logs_what_one_in_this_process_does(pooled):
    prompts, completions, columns, offered = rows()
    found = scores(pooled("seen", "waits"), prompts, completions, columns, offered=offered)
    assert found.rewards["seen"].tolist() == [100.5, 102.5, 104.5]
    assert found.rewards["waits"].tolist() == [1.0, 1.0, 3.0]
    assert found.logged["seen"].metrics == {"length": [1.0, 1.0, 3.0]}
    assert found.logged["seen"].extra == {
        "both": ["p0a", None, "p2ccc"],
        "ids": ["[]", None, "[7, 7]"],
    }


def test_draws_depend_on_the_seed_and_not_on_the_workers(pooled):
    prompts, completions, columns, _ = rows()
    found = []
    for size in (1, 3):
        functions = pooled("drawn", size=size)
        random.seed(5)
        found += [scores(functions, prompts, completions, columns).rewards["drawn"].tolist()]
        found += [scores(functions, prompts, completions, columns).rewards["drawn"].tolist()]
    assert found[:2] == found[2:]
    assert len({*found[0], *found[1]}) == 6


def test_a_row_that_fails_is_unscorable_or_an_error_that_names_it(pooled):
    prompts, completions, columns, _ = rows(5)
    functions = pooled("fails")
    reward = scores(functions, prompts, completions, columns).rewards["fails"]
    assert reward[[0, 1, 2, 4]].tolist() == [1.0, 1.0, 1 / 3, 0.2]
    assert math.isnan(reward[3])
    seen = {"ok": 4.0, "error": 1.0}
    counts = take_counts(functions.values())
    assert counts == {f"reward/status/{one}": [seen.get(one, 0.0)] for one in STATUSES}
    assert not any(values[0] for values in take_counts(functions.values()).values())
    message = "reward function fails: raised ZeroDivisionError.*row 3, prompt 'p3', completion ''"
    functions = pooled("fails", on_failure="error")
    with pytest.raises(GradingError, match=message):
        scores(functions, prompts, completions, columns)


def test_what_is_not_sent_of_the_state_is_named_with_the_remedy(pooled):
    prompts, completions, columns, offered = rows()
    functions = pooled("history", on_failure="error")
    with pytest.raises(GradingError, match=r"log_history is not sent .* set reward_workers = 0"):
        scores(functions, prompts, completions, columns, offered=offered)


@pytest.mark.parametrize("value", [b"x", {1: "x"}, (1, 2), {"a": [object()]}])
def test_a_column_that_json_would_change_is_refused_by_name(pooled, value):
    prompts, completions, _, _ = rows()
    functions = pooled("fails")
    with pytest.raises(RewardError, match=r"column 'answer' holds a .*, row 1, which cannot be"):
        scores(functions, prompts, completions, {"answer": [1, value, 2]})
