"""Two sources compared: matched by key, with the exact sign test."""

import math
import statistics
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gspo_rs.groups.statistics import stats
from gspo_rs.report import versus

rows = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, float("nan")])), min_size=1
)


def described(pairs, kind=pl.Int64):
    ids, rewards = zip(*pairs, strict=True)
    return stats(list(rewards), pl.Series(ids).cast(kind))


@given(rows, rows)
def test_groups_are_matched_by_their_keys_as_dictionaries_match_them(one, other):
    def means(pairs):
        known = {key: [r for k, r in pairs if k == key and r == r] for key, _ in pairs}
        return {key: statistics.fmean(values) for key, values in known.items() if values}

    here, there = means(one), means(other)
    # Another width of integer is the same key.
    found = versus.compared(described(one), described(other, pl.UInt8), "b")
    moved = {key: here[key] - there[key] for key in here if key in there}
    assert found.n_shared == len(moved)
    assert found.n_only_here == len(here) - len(moved)
    assert found.n_only_there == len(there) - len(moved)
    assert found.better == sum(step > 0 for step in moved.values())
    assert found.worse == sum(step < 0 for step in moved.values())
    if moved:
        assert_allclose(found.difference, statistics.fmean(moved.values()), atol=1e-12)
    if len(moved) > 1:
        error = statistics.stdev(moved.values()) / math.sqrt(len(moved))
        assert_allclose(found.error, error, atol=1e-12)
    for listed, sign in ((found.up, 1), (found.down, -1)):
        steps = [one.mean - one.before for one in listed]
        assert_allclose([moved[int(one.key)] for one in listed], steps)
        assert steps == sorted(steps, reverse=sign > 0)


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (9, 1), (5, 5), (480, 530), (999, 1), (700, 650)]
)
def test_the_sign_test_is_the_sum_of_the_binomial_distribution(better, worse):
    n = better + worse
    tail = sum(math.comb(n, k) for k in range(min(better, worse) + 1))
    exact = min(Fraction(1), Fraction(2 * tail, 2**n))
    assert versus.sign_test(better, worse) == pytest.approx(float(exact), rel=1e-9)
    assert versus.sign_test(worse, better) == versus.sign_test(better, worse)


def test_keys_of_different_types_are_refused_and_named():
    with pytest.raises(
        TypeError, match=r"column 1 of the group's id is Int128 here and String in b"
    ):
        versus.compared(described([(1, 0.0)]), described([(1, 0.0)], pl.String), "b.parquet")
