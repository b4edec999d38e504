import html
import re
from itertools import combinations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fixtures.graded import write_grades
from gspo_rs.files.grades import graded
from gspo_rs.groups.groups import Groups
from gspo_rs.report import report
from gspo_rs.report.grading import agreement


def text_of(page):
    """What a page says, without its elements."""
    said = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(said).split())


values = st.sampled_from([0.0, 1.0, 2.0, np.nan])
cases = st.lists(st.tuples(st.integers(0, 2), values, values), min_size=1, max_size=12)


@given(cases)
def test_two_rewards_agree_on_the_pairs_that_enumeration_finds(rows):
    pairs = [
        [(b > a) - (b < a) for a, b in zip(first[1:], second[1:], strict=True)]
        for first, second in combinations(rows, 2)
        if first[0] == second[0] and not np.isnan([*first[1:], *second[1:]]).any()
    ]
    group, one, other = map(np.array, zip(*rows, strict=True))
    groups = Groups(group)
    found = agreement(one, other, groups, np.arange(groups.n_groups))
    decided = [pair for pair in pairs if 0 not in pair]
    assert found.n_pairs == len(pairs)
    assert found.n_decided == len(decided)
    assert found.n_alike == sum(a == b for a, b in decided)


def graded_page(tmp_path, rewards, **more):
    file = tmp_path / "rows.parquet"
    n = len(next(iter(rewards.values())))
    rows = {"id": [row // 4 for row in range(n)], "completion": [f"said {row}" for row in range(n)]}
    pl.DataFrame(rows).write_parquet(file)
    source = graded(file, write_grades(tmp_path / "out", [file], rewards, **more))
    return text_of(report(source, tmp_path / "page.html", by="id"))


def test_the_page_tells_of_failures_time_scale_and_agreement(tmp_path):
    rewards = {"right": [0.0, 1.0, 1.0, None] * 4, "short": [0.25, 0.5, 0.125, 0.5] * 4}
    page = graded_page(
        tmp_path,
        rewards,
        status=["ok", "ok", "ok", "timeout"] * 4,
        seconds=[0.5, 0.5, 0.5, 10.0] * 4,
        attempts=pl.Series([1, 3, 1, 1] * 4, dtype=pl.Int32),
    )
    assert "Grader" in page
    assert "12 (75 %) 4 (25 %)" in page  # ok, and out of time
    assert "all 46 0.5 10 10 10 4 (25 %)" in page
    # Of three pairs a group one is a tie for `right`; of the others one is alike.
    assert "right and short 12 50 % 33.3 %" in page
    assert "short function 1 0.125 0.375 0.5 3 25 % 50 % 0 %" in page
    assert "--grades out" in page
    assert str(tmp_path) not in page


def test_the_bias_of_a_judge_for_what_it_saw_first_is_told(tmp_path):
    counts = {"first": [6.0, 4], "second": [2.0, 4], "compared": [4.0, 4], "disagree": [1.0, 4]}
    page = graded_page(tmp_path, {"pairwise": [0.0, 1.0, -1.0, 0.0]}, metrics={"pairwise": counts})
    assert "pairwise 4 pairs 75 % 25 % 25 %" in page


def test_a_page_without_grades_has_no_section_about_a_grader(tmp_path):
    frame = pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0]})
    assert "Grader" not in text_of(report(frame, tmp_path / "page.html", by="id"))
