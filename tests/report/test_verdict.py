"""The verdict: which sentences stand on the page of which data, and no others."""

from html import unescape

import polars as pl
import pytest

from gspo_rs.report import report

GOOD = "All 2 groups have different rewards: every one can teach."
TWO = "Rewards have two values, 0 and 1: a rank in the group says which of them, and nothing finer."


def groups(*rewards, **columns):
    """One row per reward, a group for each list."""
    rows = [(number, reward) for number, group in enumerate(rewards) for reward in group]
    ids, values = zip(*rows, strict=True)
    frame = pl.DataFrame({"id": ids, "reward": values}, schema_overrides={"reward": pl.Float64})
    return frame.with_columns(**columns)


def texts(*values):
    return pl.Series("completion", values)


LONG = "a sentence of more than fifty characters, all of it words and none of it new"
# Data → the sentences of its verdict, in their order.
CASES = {
    "every group teaches": (groups([0, 0.2, 0.4, 1], [1, 0.8, 0.3, 0.1]), [GOOD]),
    "one group": (
        groups([0.1, 0.2, 0.4, 1]),
        ["The one group has different rewards and can teach."],
    ),
    "two values": (groups([0, 0, 0, 1], [1, 1, 1, 0]), [GOOD, TWO]),
    "none teaches": (
        groups([0, 0], [1, 1]),
        [
            "No group has two different rewards: nothing here can teach.",
            "1 group (50 %) has right completions only.",
            "1 group (50 %) has wrong completions only.",
        ],
    ),
    "all rewards alike": (groups([2, 2], [2, 2]), ["All rewards are 2: nothing here can teach."]),
    "unrated groups are neither too easy nor too hard": (
        groups([0, 0.3, 0.6, 1], [None, None]),
        [
            "1 of 2 groups (50 %) have different rewards and can teach; in the other 1 every "
            "advantage is 0.",
            "1 group (50 %) has no reward at all.",
        ],
    ),
    "equal rewards at the top, at the bottom and between": (
        groups([0, 3, 5, 9], [9, 9], [9, 9], [0, 0], [5, 5]),
        [
            "1 of 5 groups (20 %) have different rewards and can teach; in the other 4 every "
            "advantage is 0.",
            "2 groups (40 %) have the highest reward of all, 9, throughout.",
            "1 group (20 %) has the lowest reward of all, 0, throughout.",
            "1 group (20 %) has one and the same reward throughout, between 0 and 9.",
        ],
    ),
    "alone, and alone with a reward": (
        groups([0, 3, 5, 9], [4], [4, None]),
        [
            "1 of 3 groups (33.3 %) have different rewards and can teach; in the other 2 every "
            "advantage is 0.",
            "1 group (33.3 %) has a single completion, and nothing to compare it with.",
            "1 group (33.3 %) has one completion with a reward among several without.",
            "1 completion (14.3 %) has no reward in groups where others have one.",
        ],
    ),
    "small groups": (
        groups([0, 3], [5, 9]),
        [
            GOOD,
            "Half of the groups that teach have 2 completions with a reward or fewer: their ranks "
            "are coarse.",
        ],
    ),
    "right ones are rare": (
        groups(*[[1] + [0] * 19] * 2),
        [
            GOOD,
            "Right completions are rare: one draw is right in 5 % of the cases, one of 20 in "
            "100 %.",
            TWO,
        ],
    ),
    "prompts differ and completions hardly": (
        groups([0, 0.1, 0.2, 0.3], [9, 9.1, 9.2, 9.3]),
        [
            GOOD,
            "Only 0.1 % of the variance of rewards lies within groups: most of it says how hard "
            "a prompt is, which no advantage uses.",
        ],
    ),
    "ties": (
        groups([0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0.7]),
        [GOOD, "60 % of the pairs inside groups have equal rewards."],
    ),
    "two models": (
        groups([0, 0.2, 0.4, 1], [1, 0.8, 0.3, 0.1], model=pl.Series(["m", "n"] * 4)),
        [
            GOOD,
            "2 groups mix completions of two or more values of model: ranks there compare these "
            "with each other.",
        ],
    ),
    "one model a group": (
        groups([0, 0.2, 0.4, 1], [1, 0.8, 0.3, 0.1], model=pl.Series(["m"] * 4 + ["n"] * 4)),
        [GOOD],
    ),
    "copies, and a grader that contradicts itself": (
        groups([0, 0.2, 0.4, 1], [1, 0.8, 0.3, 0.1], completion=texts(*"aacdefgh")),
        [
            GOOD,
            "12.5 % of the completions repeat another one of their group, letter for letter.",
            "The grader contradicts itself: 1 of 1 repeated completion got different rewards in "
            "one group.",
        ],
    ),
    "empty and short ones that win": (
        groups([0, 0.2, 0.3, 0.4, 1], completion=texts(LONG, LONG + "!", LONG + "?", " ", "ok")),
        [
            "The one group has different rewards and can teach.",
            "1 empty completion has a reward above the lowest of the group.",
            "1 completion has the highest reward of the group with less than a tenth of its median "
            "length.",
        ],
    ),
    "longer ones win": (
        groups(*[[0, 0.2, 0.4, 1]] * 10, completion=texts(*["a", "ab", "abc", "abcd"] * 10)),
        [
            "All 10 groups have different rewards: every one can teach.",
            "Inside groups longer completions have higher rewards (correlation 1 ± 0).",
            "One text stands in 10 groups and beats 100 % of the others there.",
        ],
    ),
    "shorter ones win": (
        groups(*[[0, 0.2, 0.4, 1]] * 10, completion=texts(*["abcd", "abc", "ab", "a"] * 10)),
        [
            "All 10 groups have different rewards: every one can teach.",
            "Inside groups shorter completions have higher rewards (correlation -1 ± 0).",
            "One text stands in 10 groups and beats 100 % of the others there.",
        ],
    ),
    "a consistent grader": (
        groups(*[[0, 0, 0, 0, 0, 1]] * 8, completion=texts(*"xxxxxy" * 8)),
        [
            "All 8 groups have different rewards: every one can teach.",
            TWO,
            "66.7 % of the completions repeat another one of their group, letter for letter.",
            "The grader is consistent: 32 repeats of a completion in its group all got the same "
            "reward.",
        ],
    ),
}


def of_files(folder, frame):
    frame.write_parquet(folder / "a b.parquet")
    return report(folder / "a b.parquet", by="id")


def test_the_command_that_keeps_what_teaches_names_the_file_and_not_its_folder(tmp_path):
    page = of_files(tmp_path, groups([0, 0.3, 0.6, 1], [None, None]))
    command = "gspo-rs filter 'a b.parquet' --by id --keep informative -o kept.parquet"
    assert f"Keep those that teach: {command}" in unescape(page.html)
    assert str(tmp_path) not in page.html


SPLIT = "{} groups better and {} worse than in the DataFrame (other) (sign test, p = {})."


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ([0.1] * 8, "Better than the DataFrame (other): " + SPLIT.format(8, 0, "0.0078")),
        ([-0.1] * 8, "Worse than the DataFrame (other): " + SPLIT.format("0", 8, "0.0078")),
        ([0.1] * 4 + [-0.1] * 3, None),
        ([0.0] * 8, "No group's mean reward differs from that in the DataFrame (other)."),
    ],
)
def test_a_verdict_of_two_sources_is_that_of_the_sign_test(moved, expected):
    before = groups(*[[0.1, 0.3, 0.5, 0.7]] * len(moved))
    after = groups(*[[0.1, 0.3, 0.5, 0.7 + step] for step in moved])
    last = sentences(report(after, by="id", compare=before))[-1]
    unsure = "Not surely different from the DataFrame (other): " + SPLIT.format(4, 3, "1")
    assert last == (expected or unsure)


def sentences(page):
    """The first paragraph of each point of the verdict."""
    listed = page.html.split('<ul class="verdict">')[1].split("</ul>")[0]
    return [unescape(point.split("<p>")[1].split("</p>")[0]) for point in listed.split("<li")[1:]]


@pytest.mark.parametrize("name", CASES)
def test_a_verdict_says_what_is_true_of_the_data_and_nothing_else(name):
    frame, expected = CASES[name]
    assert sentences(report(frame, by="id")) == expected
