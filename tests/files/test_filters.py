"""Rows kept by rules, against the rules spelled out in Python with exact fractions."""

from collections import defaultdict
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs
from gspo_rs.files.filters import NO_GROUP, filter_rows, parse

rewards = st.lists(
    st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 1.0, 2.5, float("nan")]), max_size=40
)


@st.composite
def cases(draw):
    values = draw(rewards)
    ids = draw(st.lists(st.integers(0, 5), min_size=len(values), max_size=len(values)))
    return np.array(values), np.array(ids, dtype=np.int64)


def members(values, ids):
    groups = defaultdict(list)
    for row, key in enumerate(ids):
        groups[int(key)].append(row)
    return groups


def by_hand(values, ids, keeps):
    """Ask `keeps(scored rewards as fractions, row, its reward or None)` about each row."""
    kept = np.zeros(len(values), dtype=bool)
    for rows in members(values, ids).values():
        known = {row: Fraction(values[row]) for row in rows if values[row] == values[row]}
        for row in rows:
            kept[row] = keeps(known, row, rows)
    return kept


def nearest(q):
    """Keep tied rows while that brings the number kept nearer to q N."""

    def keeps(known, row, rows):
        if row not in known:
            return False
        wanted = Fraction(q) * len(known)
        above = sum(r > known[row] for r in known.values())
        through = sum(r >= known[row] for r in known.values())
        return abs(through - wanted) < abs(above - wanted)

    return keeps


def first_of_the_best(k):
    def keeps(known, row, rows):
        return row in sorted(known, key=lambda r: (-known[r], r))[:k]

    return keeps


def share_right(low, high):
    def keeps(known, row, rows):
        if not known:
            return False
        right = sum(r >= Fraction(1, 2) for r in known.values())
        return Fraction(low) * len(known) <= right <= Fraction(high) * len(known)

    return keeps


ORACLES = {
    "scored": lambda known, row, rows: row in known,
    "informative": lambda known, row, rows: len(set(known.values())) > 1,
    "size:3..5": lambda known, row, rows: 3 <= len(rows) <= 5,
    "size:..2": lambda known, row, rows: len(rows) <= 2,
    "pass-rate:0.1..0.75": share_right("0.1", "0.75"),
    "pass-rate:0.5..": share_right("0.5", "1"),
    "mean:0.5..1.5": lambda known, row, rows: (
        bool(known) and Fraction(1, 2) <= sum(known.values()) / len(known) <= Fraction(3, 2)
    ),
    "min-spread:0.75": lambda known, row, rows: (
        bool(known) and max(known.values()) - min(known.values()) >= Fraction(3, 4)
    ),
    "top:0.2": nearest("0.2"),
    "top:0.3": nearest("0.3"),
    "top:1": nearest("1"),
    "best:1": first_of_the_best(1),
    "best:3": first_of_the_best(3),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", ORACLES)
@given(cases())
def test_a_rule_keeps_the_rows_that_its_sentence_names(text, case):
    found = filter_rows(*case, parse(text))
    expected = by_hand(*case, ORACLES[text])
    np.testing.assert_array_equal(found.mask, expected)
    assert found.dropped == {text: int((~expected).sum())}


@given(cases(), st.lists(st.sampled_from(sorted(ORACLES)), min_size=1, max_size=4, unique=True))
def test_rules_together_keep_what_each_keeps_and_count_a_row_for_the_first_that_drops_it(
    case, texts
):
    found = filter_rows(*case, parse(", ".join(texts)))
    alone = [filter_rows(*case, parse(text)).mask for text in texts]
    np.testing.assert_array_equal(found.mask, np.logical_and.reduce(alone))
    left, expected = np.ones(len(case[0]), dtype=bool), {}
    for text, mask in zip(texts, alone, strict=True):
        expected[text] = int((left & ~mask).sum())
        left &= mask
    assert found.dropped == expected
    assert list(found.dropped) == texts
    assert sum(found.dropped.values()) + found.mask.sum() == len(case[0])


@pytest.mark.parametrize("file", ["rg_policy3", "wildbench_judge10", "wmt21_ted_zhen_mqm"])
def test_best_is_what_polars_keeps_of_real_rewards(shared, file):
    frame = pl.read_parquet(
        shared / f"data/{file}.parquet", columns=["prompt_id", "reward"]
    ).with_row_index()
    expected = (
        frame.filter(pl.col("reward").is_not_null())
        .sort("reward", descending=True, maintain_order=True)
        .group_by("prompt_id", maintain_order=True)
        .head(2)["index"]
        .sort()
    )
    found = filter_rows(frame["reward"].to_numpy(), frame["prompt_id"], parse("best:2"))
    assert np.flatnonzero(found.mask).tolist() == expected.to_list()
    top = filter_rows(frame["reward"].to_numpy(), frame["prompt_id"], parse("top:0.25"))
    share = gs.top_fraction(frame["reward"].to_numpy(), frame["prompt_id"], 0.25)
    np.testing.assert_array_equal(top.mask, share > 0.5)


def test_a_tie_that_lies_half_in_the_top_goes_even_where_the_fraction_is_no_float():
    # 0.15 x 10 is 1.5: one row above, two tied, each with a quarter; 0.2 x 10 takes half of it.
    values = np.array([9.0, 5.0, 5.0, *[0.0] * 7])
    ids = np.zeros(10, dtype=np.int64)
    assert filter_rows(values, ids, parse("top:0.15")).mask.sum() == 1
    assert filter_rows(values, ids, parse("top:0.2")).mask.sum() == 1
    assert filter_rows(values, ids, parse("top:0.200000001")).mask.sum() == 3


def test_all_keeps_even_rows_of_no_group_and_any_rule_drops_these_first():
    groups = gs.Groups(["a", None, "a", None], null_ids="drop")
    values = [1.0, 3.0, float("nan"), 0.0]
    assert filter_rows(values, groups, parse("all")).mask.tolist() == [True] * 4
    found = filter_rows(values, groups, parse("size:1..,scored"))
    assert found.mask.tolist() == [True, False, False, False]
    assert found.dropped == {NO_GROUP: 2, "size:1..": 0, "scored": 1}


def test_an_infinite_reward_is_refused():
    with pytest.raises(ValueError, match="the reward at row 1 is inf"):
        filter_rows([0.0, float("inf")], ["a", "a"], parse("scored"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bets:1", r"unknown rule 'bets'; use all, scored, informative, size:4\.\.16, pass-rate:"),
        ("", "unknown rule ''"),
        ("informative,", "unknown rule ''"),
        ("all,best:1", "'all' stands alone"),
        ("informative:1", "write it as informative$"),
        ("top", "write it as top:0.2$"),
        ("size:4", r"write it as size:4\.\.16$"),
        ("best:1..2", "write it as best:1$"),
        ("size:..", "a number is missing"),
        ("best:", "a number is missing"),
        ("best:1.5", "a whole number from 1$"),
        ("best:0", "a whole number from 1$"),
        ("size:-1..", "a whole number from 1$"),
        ("pass-rate:10..90", "between 0 and 1$"),
        ("pass-rate:0.9..0.1", "the range is empty"),
        ("mean:nan..1", "'nan' is not a finite number"),
        ("mean:a..1", "'a' is not a finite number"),
        ("min-spread:-1", "at least 0$"),
        ("top:0", "above 0, at most 1"),
        ("top:20", "above 0, at most 1"),
        ("top:0.1234567891", "at most nine decimals"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_right_form(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)
