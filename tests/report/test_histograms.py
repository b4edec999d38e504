"""Bars with round edges that hold every value."""

from collections import Counter

import numpy as np
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
    found = histograms.histogram(np.array([0.0, 0.15, 0.3, 0.7, 1.0]))
    assert_allclose(found.edges, np.arange(21) / 20)
    assert np.flatnonzero(found.counts).tolist() == [0, 3, 6, 14, 19]
