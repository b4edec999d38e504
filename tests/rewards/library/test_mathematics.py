import polars as pl
import pytest

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.workers import Workers

SPEC = "gspo_rs.rewards.library:math_match"
CASES = [
    (r"So \boxed{\frac{1}{2}}", "0.5", 1.0),
    (r"\boxed{0.5}", r"\frac{1}{2}", 1.0),
    (r"It is $x + 1$.", "$1 + x$", 1.0),
    (r"\boxed{3}", "4", 0.0),
    ("I do not know.", "4", 0.0),
    ("", "4", 0.0),
]


def grades(rows, **options):
    with Workers({"math": SPEC}, 2, **options) as workers:
        given = [{"prompts": [""], "completions": [c], "answer": [a]} for c, a, *_ in rows]
        return workers.grade("math", given)


def test_answers_that_mean_the_same_are_equal():
    pytest.importorskip("math_verify")
    found = grades([*CASES, ("4", "")])
    assert [grade.reward for grade in found[:-1]] == [wanted for _, _, wanted in CASES]
    assert found[-1].status == "none"  # nothing to compare with


@pytest.mark.slow
def test_a_power_without_end_costs_its_time_and_no_other_row():
    pytest.importorskip("math_verify")
    found = grades([CASES[0], (r"\boxed{9^{9^{9^9}}}", "2"), CASES[3]], timeout=5.0)
    assert [grade.status for grade in found] == ["ok", "timeout", "ok"]
    assert (found[0].reward, found[2].reward) == (1.0, 0.0)


@pytest.mark.slow
def test_real_answers_are_judged_as_a_plain_loop_over_the_library_does(shared):
    math_verify = pytest.importorskip("math_verify")
    rows = pl.read_parquet(shared / "data" / "qwen_math_rm8.parquet").head(200)
    pairs = list(zip(rows["response"], rows["expected_answer"], strict=True))
    plain = [
        float(math_verify.verify(math_verify.parse(f"${right}$"), math_verify.parse(said)))
        for said, right in pairs
    ]
    assert [grade.reward for grade in grades(pairs)] == plain
    assert plain.count(1.0) > 150


def test_without_its_library_the_error_names_the_extra_before_a_row_is_graded(tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('not here')\n")
    reward = tmp_path / "reward.py"
    reward.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from gspo_rs.rewards.library import math_match as graded\n"
    )
    with pytest.raises(RewardError, match=r"pip install 'gspo_rs\[math\]' \(not here\)"):
        Workers({"math": f"{reward}:graded"}, 1)
