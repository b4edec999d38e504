from decimal import Decimal
from fractions import Fraction
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.rewards.library import exact_match, numeric_match
from gspo_rs.rewards.library.matches import number_in
from gspo_rs.rewards.library.texts import final_answer, said


def test_the_answers_of_real_solutions_are_right_where_their_authors_say_so(shared):
    rows = pl.read_parquet(shared / "data" / "gsm8k_solutions4.parquet")
    found = numeric_match(
        completions=rows["response"].to_list(), answer=rows["expected_answer"].to_list()
    )
    assert found == rows["reward"].to_list()


def test_the_number_of_a_worked_solution_is_the_one_after_its_mark(shared):
    rows = pl.read_parquet(shared / "data" / "gsm8k_train.parquet")
    found = [float(number_in(text) or 0) for text in rows["answer"]]
    assert found == rows["final_answer_num"].to_list()


decimals = st.decimals(-(10**6), 10**6, places=3)
WRITTEN = ["{}", "{:,}", "It is {}.", "4 of them: ${:,}", "<answer> {} </answer> of 3", "{:e}"]


@given(decimals, st.sampled_from(WRITTEN))
def test_a_number_is_read_exactly_however_it_is_written(value, written):
    assert number_in(written.format(value)) == Fraction(value)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_a_fraction_is_read_exactly_in_text_and_in_latex(top, below):
    sign, size = "-" * (top < 0), abs(top)
    for text in (
        f"{top}/{below}",
        f"{top} / {below}",
        rf"\boxed{{{sign}\frac{{{size}}}{{{below}}}}}",
    ):
        assert number_in(text) == Fraction(top, below)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16 - 3 = 13", 13),
        ("16 - 3", 3),  # an operator, not a sign
        ("3-5", 5),
        ("x = -5", -5),
        ("(-5)", -5),
        ("-$5", -5),
        ("\u22125", -5),
        ("50%", 50),
        ("3,14", 14),
        ("1,234,56", 56),
        ("1e400", 10**400),
        ("1/0", None),
        ("1e9999999999", 9999999999),  # no number of that size is made
        ("9" * 5000, None),
        ("none", None),
        ("", None),
        (None, None),
        (float("nan"), None),
        (Decimal("0.1"), Fraction(1, 10)),
        (0.1, Fraction(0.1)),
    ],
)
def test_numbers_that_are_easily_misread_are_read_as_documented(text, value):
    assert number_in(text) == value


def test_a_last_mark_decides_and_tags_come_before_boxes_and_boxes_before_hashes():
    marks = {"tag": "<answer>{}</answer>", "box": r"\boxed{{{}}}", "hash": "#### {}\n"}
    for order in product(marks, repeat=3):
        text = "".join(marks[one].format(place) for place, one in enumerate(order))
        first = next(one for one in marks if one in order)
        assert final_answer(text) == str(max(i for i, one in enumerate(order) if one == first))


def test_a_box_is_read_to_the_brace_that_closes_it_and_an_open_one_is_none():
    assert final_answer(r"\boxed{\frac{1}{2}} and \boxed{3") == r"\frac{1}{2}"
    assert final_answer(r"\boxed{3") is None


def test_an_exact_match_compares_letters_but_not_spaces():
    said_ = ["<answer>New\n York </answer>", "New York", "new york", "It is New York", ""]
    assert exact_match(completions=said_, answer=["New York"] * 5) == [1, 1, 0, 0, 0]


def test_without_a_right_answer_there_is_no_reward():
    assert exact_match(completions=["a", "a"], answer=[None, "a"]) == [None, 1.0]
    assert numeric_match(completions=["1", "1"], answer=["none", None]) == [None, None]


def test_of_messages_the_last_one_is_read_and_what_is_no_text_is_refused():
    turns = [{"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}]
    assert numeric_match(completions=[turns], answer=[5]) == [1.0]
    for wrong in (None, 5, [], [{"role": "assistant", "content": [{"type": "image"}]}]):
        with pytest.raises(TypeError, match="reads text or messages"):
            said(wrong)
