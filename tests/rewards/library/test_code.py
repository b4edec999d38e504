import json
import time

import pytest

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.library import code_tests, math_match
from gspo_rs.rewards.workers import Workers

TESTS = [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2\n", "output": "4"}]
ADD = "a, b = map(int, input().split())\nprint(a + b)"
RUNS = {
    "right": (ADD, 1.0),
    "in a block": (f"So:\n```python\nprint(1)\n```\nNo, rather\n```python\n{ADD}\n```\nDone.", 1.0),
    "an open block": (f"```python\n{ADD}", 0.0),
    "right on one of two": ("input(); print(3)", 0.5),
    "raises": ("raise SystemExit(1)", 0.0),
    "ends with success before it prints": ("import os; os._exit(0)", 0.0),
    "prints and fails": (f"{ADD}\n1 / 0", 0.0),
    "prints without end": ("while True: print('a' * 10000)", 0.0),
    "leaves a child": (f"import os\nif os.fork() == 0:\n    while True: pass\n{ADD}", 1.0),
    "takes a null": ("print(3)\0", 0.0),
    "is long": (f"# {'a' * 200_000}\n{ADD}", 1.0),
    "asks for memory": ("print(len('a' * (1 << 34)))", 0.0),
    "looks for this package": ("import gspo_rs", 0.0),
}


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """The function as it is, with all the time that a busy machine takes, and with little."""
    path = tmp_path_factory.mktemp("code") / "given.py"
    path.write_text(
        "from functools import partial\nfrom gspo_rs.rewards.library import code_tests\n"
        "patient, hasty = (partial(code_tests, seconds=most) for most in (600.0, 0.5))\n"
    )
    specs = {"code": "gspo_rs.rewards.library:code_tests"}
    specs |= {name: f"{path}:{name}" for name in ("patient", "hasty")}
    with Workers(specs, 2, timeout=1200.0) as pool:
        yield pool


def given_to(program, tests):
    return {"prompts": [""], "completions": [program], "tests": [tests]}


def test_a_program_gets_the_share_of_tests_that_it_passes_whatever_it_does(workers):
    grades = workers.grade("patient", [given_to(text, TESTS) for text, _ in RUNS.values()])
    assert {name: grade.reward for name, grade in zip(RUNS, grades, strict=True)} == {
        name: wanted for name, (_, wanted) in RUNS.items()
    }
    assert {grade.status for grade in grades} == {"ok"}


def test_tests_may_be_json_and_without_any_there_is_no_reward(workers):
    rows = [given_to(ADD, tests) for tests in (json.dumps(TESTS), None, [], [{"input": ""}])]
    found = workers.grade("code", rows)
    assert [grade.status for grade in found] == ["ok", "none", "none", "error"]
    assert "it has an input and an output" in found[3].error


def test_an_endless_program_is_wrong_and_not_a_failure_of_the_grader(workers):
    started = time.monotonic()
    (found,) = workers.grade("hasty", [given_to("while True: pass", TESTS)])
    assert (found.status, found.reward) == ("ok", 0.0)
    assert time.monotonic() - started >= 0.5  # what its tests have together


@pytest.mark.parametrize("reward", [code_tests, math_match])
def test_what_may_hang_is_refused_where_nothing_kills_it(reward):
    with pytest.raises(RewardError, match=r"only in a worker.*library:\w+.*reward_workers"):
        reward(completions=["1"], answer=["1"], tests=[TESTS])
