"""Bounds written in decimals, and the means they meet, against exact fractions."""

from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gspo_rs as gs
from gspo_rs.files.filters import filter_rows, parse
from gspo_rs.groups.decimals import highest, lowest, written

SHARES = [(k, n) for n in range(1, 65) for k in range(n + 1)]
TENTHS = [f"{step / 20:.2f}".rstrip("0") for step in range(1, 20)]
BOUNDS = [*TENTHS, "0.01", "0.07", "0.3333", "0.999", "0.33333333333333333", "1e-1"]


def every_share():
    """Rewards of 0 and 1 in one group for each k of n, and the ids."""
    sizes = np.array([n for _, n in SHARES])
    ids = np.repeat(np.arange(len(SHARES)), sizes)
    rewards = np.concatenate([np.arange(n) < k for k, n in SHARES]).astype(float)
    return rewards, ids


def kept_groups(text, rewards, ids, threshold=None):
    mask = filter_rows(rewards, ids, parse(text, threshold)).mask
    return set(np.unique(ids[mask]).tolist())


def test_the_mean_of_every_share_is_the_float_nearest_to_it():
    rewards, ids = every_share()
    found = gs.stats(rewards, ids).mean
    assert found.tolist() == [k / n for k, n in SHARES]
    frame = pl.DataFrame({"id": ids, "r": rewards})
    polars = frame.group_by("id", maintain_order=True).agg(pl.col("r").mean())["r"]
    pandas = pd.DataFrame({"id": ids, "r": rewards}).groupby("id")["r"].mean()
    assert found.tolist() == polars.to_list() == pandas.tolist()
    (column,) = gs.rows(rewards, ids, ["group_mean"])
    np.testing.assert_array_equal(column, found[ids])


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_share_that_is_the_bound_is_inside_it(bound):
    rewards, ids = every_share()
    low = {g for g, (k, n) in enumerate(SHARES) if Fraction(k, n) >= Fraction(bound)}
    high = {g for g, (k, n) in enumerate(SHARES) if Fraction(k, n) <= Fraction(bound)}
    for word in ("pass-rate", "mean"):
        assert kept_groups(f"{word}:{bound}..", rewards, ids) == low
        assert kept_groups(f"{word}:..{bound}", rewards, ids) == high
    mixed = gs.stats(rewards, ids).informative
    for name, expected in (("low", low), ("high", high)):
        told = gs.informative(rewards, ids, **{name: float(bound)})
        near = {g for g, (k, n) in enumerate(SHARES) if k / n == float(bound)}
        # A float stands for the shortest decimal that reads as it.
        wanted = (expected | near) & set(np.flatnonzero(mixed))
        assert set(np.flatnonzero(told)) == wanted


def test_two_right_in_twenty_are_a_tenth():
    rewards = np.array([1.0] * 2 + [0.0] * 18)
    ids = np.zeros(20, dtype=int)
    assert filter_rows(rewards, ids, parse("pass-rate:0.1..0.9")).mask.all()
    assert filter_rows(1 - rewards, ids, parse("pass-rate:0.1..0.9")).mask.all()
    assert gs.informative(rewards, ids, low=0.1, high=0.1).all()
    assert not gs.informative(rewards, ids, low=0.1000001).any()


decimals = st.integers(-400, 400)


@given(
    st.lists(st.tuples(decimals, st.integers(0, 3)), min_size=1, max_size=30),
    decimals,
    st.integers(1, 4),
)
def test_decimal_rewards_meet_decimal_bounds_as_they_are_written(rows, bound, places):
    unit = 10**places
    rewards = np.array([digits / unit for digits, _ in rows])
    ids = np.array([key for _, key in rows])
    text = f"{bound / unit:.{places}f}"
    groups = {key: [Fraction(d, unit) for d, k in rows if k == key] for key in set(ids.tolist())}
    limit = Fraction(bound, unit)
    means = {key: sum(group) / len(group) for key, group in groups.items()}
    spreads = {key: max(group) - min(group) for key, group in groups.items()}
    low = {key for key, mean in means.items() if mean >= limit}
    assert kept_groups(f"mean:{text}..", rewards, ids) == low
    high = {key for key, mean in means.items() if mean <= limit}
    assert kept_groups(f"mean:..{text}", rewards, ids) == high
    wide = {key for key, spread in spreads.items() if spread >= abs(limit)}
    assert kept_groups(f"min-spread:{text.lstrip('-')}", rewards, ids) == wide
    own = filter_rows(rewards, ids, parse(f"reward:{text}..")).mask
    assert own.tolist() == [Fraction(digits, unit) >= limit for digits, _ in rows]
    pairs = gs.preference_pairs(rewards, ids, "all", margin=abs(bound) / unit)
    apart = sum(
        one - other > abs(limit) for group in groups.values() for one in group for other in group
    )
    if bound:
        assert len(pairs) == apart


def test_a_fraction_of_a_group_is_counted_as_it_is_written():
    # 0.07 * 100 is 7.000000000000001 in float64, and 0.29 * 100 is 28.999999999999996.
    for q, n in ((0.07, 100), (0.29, 100), (0.57, 100), (0.1, 30), (0.7, 10)):
        rewards, ids = np.arange(n, dtype=float), np.zeros(n, dtype=int)
        whole = round(Fraction(str(q)) * n)
        share = gs.top_fraction(rewards, ids, q)
        assert share.tolist() == [0.0] * (n - whole) + [1.0] * whole
        kept = filter_rows(rewards, ids, parse(f"top:{q}")).mask
        assert kept.sum() == whole
        found = gs.quantile(np.arange(n + 1.0), np.zeros(n + 1, dtype=int), q)
        assert found.tolist() == [float(whole)]


@pytest.mark.parametrize("text", ["0.3", "0.30000000000000001", "0.2999999999999999999", "-0.1"])
def test_the_nearest_floats_inside_a_bound_are_told_by_their_shortest_decimals(text):
    bound, near = Fraction(text), float(text)
    around = [np.nextafter(near, -np.inf), near, np.nextafter(near, np.inf)]
    assert lowest(bound) == min(x for x in around if Fraction(repr(float(x))) >= bound)
    assert highest(bound) == max(x for x in around if Fraction(repr(float(x))) <= bound)
    assert written(np.float32(0.1)) == written("0.1") == Fraction(1, 10)


@pytest.mark.parametrize("bound", ["1e999", "1e-999999999", "inf", "1_0"])
def test_a_bound_that_float64_does_not_have_is_refused_at_once(bound):
    with pytest.raises(ValueError, match=r"is (not a finite number|too near to 0 for float64)$"):
        parse(f"mean:{bound}..")


def test_infinite_bounds_bound_nothing_and_nan_is_refused():
    rewards, ids = [0.0, 1.0, 2.0, 2.0], ["a", "a", "b", "b"]
    assert gs.informative(rewards, ids, low=-np.inf, high=np.inf).tolist() == [True, False]
    assert not gs.informative(rewards, ids, low=np.inf).any()
    with pytest.raises(ValueError, match="low is nan"):
        gs.informative(rewards, ids, low=np.nan)


def test_sums_that_cancel_are_compared_by_their_decimals():
    rewards, ids = np.array([1000.3, -1000.1, 1e300, 1e300]), np.array([0, 0, 1, 1])
    assert kept_groups("mean:0.1..0.1", rewards, ids) == {0}
    assert kept_groups("mean:1e300..1e300", rewards, ids) == {1}
    assert kept_groups("min-spread:2000.4", rewards, ids) == {0}
    assert kept_groups("min-spread:2000.4000000000001", rewards, ids) == set()


@given(
    st.lists(
        st.one_of(
            st.floats(-1e250, 1e250),
            st.floats(-1, 1),
            st.sampled_from([1.0, -1.0, 0.1, 2.0**-53, 2.0**53, 1e200, -1e200, 5e-324, 1e-300]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_a_mean_is_the_float_nearest_to_that_of_the_exact_sum(values):
    found = gs.stats(values, [0] * len(values)).mean[0]
    assert found == float(sum(map(Fraction, values)) / len(values))
    turned = gs.stats(values[::-1], [0] * len(values)).mean[0]
    assert np.array([found]).tobytes() == np.array([turned]).tobytes()


def test_a_quantile_or_slot_that_is_whole_in_float64_stays_so():
    # A third is no decimal: three thirds are 1 all the same.
    assert gs.top_fraction([1.0, 2.0, 3.0], [0] * 3, 1 / 3).tolist() == [0.0, 0.0, 1.0]
    assert gs.quantile([0.0, 1.0, 2.0, 3.0], [0] * 4, 1 / 3).tolist() == [1.0]
