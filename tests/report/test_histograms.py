"""Bars with round edges that hold every value."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gspo_rs.report import histograms


@given(st.lists(st.integers(-30, 30), min_size=1))
def test_whole_numbers_of_a_small_range_have_a_bar_each(values):
    found = histograms.histogram(np.array(values))
    counted = Counter(values)
    if found.whole:
        middles = (found.edges[:-1] + found.edges[1:]) / 2
        assert dict(zip(middles, found.counts, strict=True)) == {
            float(value): counted[value] for value in range(min(values), max(values) + 1)
        }
    else:
        assert max(values) - min(values) >= 48


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1))
def test_no_value_is_lost_between_the_edges(values):
    found = histograms.histogram(np.array(values))
    kept = [value for value in values if value == value]
    assert found.total == len(kept)
    assert len(found.counts) <= 50
    if kept:
        assert found.edges[0] <= min(kept)
        assert max(kept) <= found.edges[-1]
        assert (np.diff(found.edges) > 0).all()


def test_a_reward_on_an_edge_lies_right_of_it():
    between = [0.5 + i / 1000 for i in range(1, 40)]
    found = histograms.histogram(np.array([0.0, 0.15, 0.3, 0.7, 1.0, *between]))
    assert_allclose(found.edges, np.arange(21) / 20)
    assert np.flatnonzero(found.counts).tolist() == [0, 3, 6, 10, 14, 19]
    assert found.labels[0] == "[0, 0.05)"
    assert found.labels[-1] == "[0.95, 1]"


@given(
    st.lists(st.sampled_from([0.0, -0.0, 0.25, 1 / 3, 2 / 3, 0.75, 1.0]), min_size=1),
    st.integers(-3, 3),
)
def test_few_values_have_a_bar_each_as_polars_counts_them(values, start):
    series = pl.Series([start + value for value in values])
    found = histograms.histogram(series.to_numpy())
    counted = dict(series.value_counts().iter_rows())
    if found.whole:
        assert all(value.is_integer() for value in counted)
    else:
        assert dict(zip(found.values, found.counts, strict=True)) == counted
        assert [float(label) for label in found.labels] == [
            pytest.approx(value, abs=0.01) for value in sorted(counted)
        ]


def test_values_that_differ_by_rounding_only_share_a_bar():
    found = histograms.histogram(np.array([0.1 + 0.2, 0.3, 0.55]))
    assert found.values.tolist() == [0.3, 0.55]
    assert found.counts.tolist() == [2, 1]


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_lengths_lie_in_the_bin_of_their_number_of_binary_digits(values):
    found = histograms.doublings(np.array(values))
    digits = Counter(value.bit_length() for value in values)
    span = range(min(digits), max(digits) + 1)
    assert found.counts.tolist() == [digits[n] for n in span]
    assert found.edges.tolist() == [0 if n == 0 else 2 ** (n - 1) for n in span] + [2 ** max(span)]
