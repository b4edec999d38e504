"""Workers that grade rows: hostile reward functions, each row with its status, the others exact."""

import os
import random
import time

import pytest

from fixtures.hostile_fates import FATES, HANGING, HARMLESS, HOSTILE, SEEN, USABLE, check, running
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.workers import Workers


def graded(workers, said, name="reward"):
    return workers.grade(name, [{"completions": [one]} for one in said])


@pytest.fixture
def mark(monkeypatch):
    """A value of a variable that workers get, by which their processes are found."""
    value = f"workers-of-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("LC_TEST", value)
    monkeypatch.setenv("OPENAI_SECRET", "s3cr3t")
    return value


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", USABLE)
@pytest.mark.usefixtures("ctrl_c")  # which a worker inherits
def test_a_hostile_row_has_its_status_every_other_its_reward_and_no_process_is_left(mark, sandbox):
    said = [*FATES, *HARMLESS, *SEEN, *(f"{n / 8}" for n in range(60))]
    random.Random(0).shuffle(said)
    # What hangs has a pool of its own: the others may take as long as a busy machine makes them.
    for rows, seconds in ((said, 600.0), (list(HANGING), 1.0)):
        options = {"timeout": seconds, "memory": 1 << 29, "sandbox": sandbox}
        with Workers({"reward": HOSTILE}, 2, **options) as workers:
            found = dict(zip(rows, graded(workers, rows), strict=True))
            if rows is said:  # a row after those that kill is graded by a worker that lives
                graded(workers, ["0.5"])
                assert running(mark)
        assert not running(mark)
        for one, grade in found.items():
            check(one, grade.status, grade.error, grade.reward)


def test_a_row_is_not_to_blame_for_what_one_before_it_left(tmp_path):
    said = ["hog", "memory of a neighbour", "leak", "a file", "later", *["0.5"] * 40, "leak"]
    options = {"timeout": 60.0, "memory": 1 << 29, "open_files": 64}
    with Workers({"reward": HOSTILE}, 1, **options) as workers:
        found = graded(workers, said)
        assert [grade.status for grade in found] == ["ok"] * len(said)
        assert [g.reward for g in found] == [5.0, 1.0, 5.0, 1.0, 5.0, *[0.5] * 40, 5.0]
        # By now the last has no descriptor left, and the pool goes on.
        assert [g.reward for g in graded(workers, ["a file", "1.5"])] == [1.0, 1.5]


def test_workers_that_are_forgotten_end(tmp_path, mark):
    workers = Workers({"reward": HOSTILE}, 1)
    assert graded(workers, ["2"])[0].reward == 2.0
    assert running(mark)
    del workers
    assert not running(mark)


def test_workers_that_are_closed_grade_no_more(tmp_path):
    workers = Workers({"reward": HOSTILE}, 1)
    workers.close()
    with pytest.raises(GradingError, match="are closed; make new ones"):
        graded(workers, ["2"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_here", "raised ModuleNotFoundError"),
        ("import sys; sys.exit(4)", "called exit"),
        ("import os; os._exit(4)", "the process that loads it exited with code 4"),
        ("def other(): pass", "no function reward there; it has other"),
        ("while True: pass", "did not load within 2 s"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_refused_by_name(tmp_path, mark, text, message):
    path = tmp_path / "given.py"
    path.write_text(text)
    seconds = 2.0 if "while" in text else 99.0
    with pytest.raises(RewardError, match=message) as caught:
        Workers({"reward": f"{path}:reward"}, 2, start_timeout=seconds)
    assert "given.py:reward" in str(caught.value)
    assert not running(mark)


def test_the_source_of_a_function_is_that_of_the_file_which_makes_it(tmp_path):
    made = "from functools import partial\nfrom gspo_rs.rewards.library import overlong_penalty\n"
    file, sources = tmp_path / "made.py", []
    for limit in (100, 200, 200):
        file.write_text(f"{made}short = partial(overlong_penalty, limit={limit}, cache=50)\n")
        with Workers({"short": f"{file}:short"}, 1, start_timeout=600.0) as workers:
            sources.append(workers.sources["short"])
    assert sources[0] != sources[1] == sources[2]
    assert len(sources[0]) == 64
