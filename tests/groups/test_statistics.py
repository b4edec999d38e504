"""Ranks, percentiles, quantiles and moments against Polars, NumPy, SciPy's rules and fractions."""

import os
import subprocess
import sys
from fractions import Fraction
from math import isnan

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gspo_rs as gs

tied = st.sampled_from([-1.0, -0.0, 0.0, 0.25, 0.5, 1.0])
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
reward = st.one_of(tied, finite, st.just(float("nan")))


@st.composite
def scattered(draw, rewards=reward):
    rows = draw(st.lists(st.tuples(st.integers(0, 4), rewards), min_size=1, max_size=50))
    ids, values = zip(*rows, strict=True)
    return np.array(ids), np.array(values)


def groups_of(ids, rewards):
    """The scorable rewards of each group, by first appearance."""
    found = {}
    for key, value in zip(ids.tolist(), rewards.tolist(), strict=True):
        found.setdefault(key, []).extend([] if isnan(value) else [value])
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["average", "min", "max", "dense", "ordinal"])
@given(scattered())
def test_ranks_are_those_polars_gives_each_group_alone(method, case):
    ids, rewards = case
    frame = pl.DataFrame({"id": ids, "reward": rewards + 0.0}).with_columns(
        pl.col("reward").fill_nan(None)
    )
    expected = frame.select(pl.col("reward").rank(method).over("id").cast(pl.Float64))["reward"]
    assert_array_equal(gs.rank(rewards, ids, method), expected.fill_null(np.nan).to_numpy())


@given(scattered())
def test_percentiles_count_the_others_that_are_beaten(case):
    ids, rewards = case
    expected = []
    for key, mine in zip(ids, rewards, strict=True):
        others = rewards[(ids == key) & ~np.isnan(rewards)]
        less, equal = (others < mine).sum(), (others == mine).sum() - 1
        n = len(others) - 1
        exact = Fraction(2 * int(less) + int(equal), 2 * n) if n > 0 else Fraction(1, 2)
        expected.append(np.nan if isnan(mine) else float(exact))
    assert_array_equal(gs.percentile(rewards, ids), expected)


@given(scattered(), st.floats(0.01, 1.0))
def test_shares_in_the_top_fraction_average_to_the_fraction(case, q):
    ids, rewards = case
    share = gs.top_fraction(rewards, ids, q)
    for key in set(ids.tolist()):
        mine = share[(ids == key) & ~np.isnan(rewards)]
        assert ((mine >= 0) & (mine <= 1)).all()
        if len(mine):
            assert mine.mean() == pytest.approx(q, abs=1e-12)


@given(scattered(finite), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_quantiles_are_those_of_numpy(case, q):
    ids, rewards = case
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.array([np.quantile(group, q) for group in groups_of(ids, rewards)])
    usable = np.isfinite(expected)
    found = gs.quantile(rewards, ids, q)
    assert_allclose(found[usable], expected[usable], rtol=1e-13, atol=1e-300)
    assert np.isfinite(found).all()
    assert_array_equal(gs.quantile(rewards, ids, q[0]), found[:, 0])


@given(scattered())
def test_statistics_are_within_rounding_of_exact_rational_arithmetic(case):
    ids, rewards = case
    found = gs.stats(rewards, ids)
    for g, group in enumerate(groups_of(ids, rewards)):
        assert found.size[g] == (ids == found.groups.ids[g]).sum()
        assert found.scored[g] == len(group)
        assert found.distinct[g] == len(set(group))
        if not group:
            assert np.isnan([found.mean[g], found.std[g], found.min[g], found.median[g]]).all()
            continue
        exact = [Fraction(value) for value in group]
        mean = sum(exact) / len(exact)
        rounding = max(1e-15 * float(max(map(abs, exact))), 5e-324)  # no float is smaller
        assert found.mean[g] == pytest.approx(float(mean), rel=1e-14, abs=rounding)
        assert (found.min[g], found.max[g]) == (min(group), max(group))
        assert found.informative[g] == (min(group) < max(group))
        if len(group) > 1:
            variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
            root = root_of(variance)
            assert found.std[g] == pytest.approx(root, rel=1e-12, abs=rounding)
        else:
            assert isnan(found.std[g])


def root_of(variance):
    """The square root of a fraction that float64 may not hold."""
    if variance == 0:
        return 0.0
    shift = 2 * ((variance.numerator.bit_length() - variance.denominator.bit_length()) // 2)
    return float(variance / Fraction(2) ** shift) ** 0.5 * 2.0 ** (shift // 2)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 100))
def test_a_group_of_equal_rewards_has_its_reward_as_mean_and_no_spread(value, n):
    found = gs.stats(np.full(n, value), np.zeros(n, dtype=int))
    assert found.mean[0] == value
    assert found.std[0] == 0.0 or n == 1
    assert not found.informative[0]


COLUMNS = ["rank", "percentile", "mean", "std", "zscore"]


def every_column(rewards, ids):
    zscore = {"estimator": "zscore", "ddof": 1, "eps": 1e-6}
    specs = [("rank", {"method": "average"}), "percentile", "group_mean", "group_std"]
    return np.stack(gs.rows(rewards, ids, [*specs, ("advantage", zscore)]))


@given(scattered(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_bit(case, random):
    ids, rewards = case
    order = list(range(len(ids)))
    random.shuffle(order)
    expected = every_column(rewards, ids)[:, order]
    assert_array_equal(
        every_column(rewards[order], ids[order]).view(np.int64), expected.view(np.int64)
    )


def test_the_number_of_threads_changes_no_bit():
    script = """
import hashlib, numpy as np, gspo_rs as gs
rng = np.random.default_rng(0)
ids, rewards = rng.integers(0, 20_000, 300_000), rng.normal(size=300_000).round(2)
spec = ("advantage", {"estimator": "zscore", "ddof": 1, "eps": 1e-6})
groups = gs.Groups(ids)
rank = ("rank", {"method": "average"})
columns = gs.rows(rewards, groups, [rank, "group_mean", "group_std", spec])
digest = hashlib.sha256(groups.order.tobytes())
for column in columns:
    digest.update(column.tobytes())
print(digest.hexdigest())
"""
    digests = set()
    for threads in (1, 2, 3, 8):
        env = os.environ | {"GSPO_RS_THREADS": str(threads)}
        run = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


def test_one_pass_for_many_columns_equals_a_pass_for_each():
    rng = np.random.default_rng(1)
    ids, rewards = rng.integers(0, 500, 5_000), rng.integers(0, 6, 5_000) / 5
    rank, percentile, mean, std, zscore = every_column(rewards, ids)
    found = gs.stats(rewards, ids)
    codes = found.groups.codes
    assert_array_equal(rank, gs.rank(rewards, ids))
    assert_array_equal(percentile, gs.percentile(rewards, ids))
    assert_array_equal(mean, found.mean[codes])
    assert_array_equal(std, found.std[codes])
    assert_array_equal(zscore, gs.advantage(rewards, ids, "zscore"))


def test_statistics_to_polars_begin_with_the_id():
    frame = gs.stats(
        [0.0, 1.0, 3.0], pl.DataFrame({"a": [1, 1, 2], "b": ["x", "x", "y"]})
    ).to_polars()
    assert frame.columns[:4] == ["a", "b", "size", "scored"]
    assert frame["mean"].to_list() == [0.5, 3.0]


@pytest.mark.parametrize(
    ("rewards", "error", "words"),
    [
        ([0.0, np.inf, 1.0], ValueError, "reward at row 1 is inf"),
        ([0.0, 1.0], ValueError, "2 rewards for 3 rollouts"),
        ([[0.0, 1.0, 2.0]], ValueError, r"shape \(1, 3\)"),
        (["a", "b", "c"], TypeError, "not numbers"),
        ([0.0, 1.0, {}], TypeError, "reward at row 2 is {}"),
        ([2**53 + 1, 0, 0], TypeError, f"{2**53 + 1} at row 0 would be rounded"),
    ],
)
def test_bad_rewards_are_named_with_their_place(rewards, error, words):
    with pytest.raises(error, match=words):
        gs.rank(rewards, [1, 1, 1])


@pytest.mark.parametrize(
    "rewards", [[1, None, 0], [True, None, False], pl.Series([1.0, None, 0.0])]
)
def test_none_and_null_are_unscorable(rewards):
    assert_array_equal(gs.percentile(rewards, [1, 1, 1]), [1.0, np.nan, 0.0])


def test_unknown_methods_columns_and_fractions_are_refused():
    with pytest.raises(ValueError, match="average, min, max, dense, ordinal"):
        gs.rank([1.0], [1], "first")
    with pytest.raises(ValueError, match='no column "median"'):
        gs.rows([1.0], [1], ["median"])
    for q in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"q = .* out of its range"):
            gs.top_fraction([1.0], [1], q)
    with pytest.raises(ValueError, match=r"q = 1.5"):
        gs.quantile([1.0], [1], 1.5)


def test_informative_groups_differ_inside_and_lie_between_the_bounds():
    rewards, ids = [0.0, 1.0, 0.9, 1.0, 0.95, 0.95, np.nan, 1.0], [0, 0, 1, 1, 2, 2, 3, 3]
    assert gs.informative(rewards, ids).tolist() == [True, True, False, False]
    assert gs.informative(rewards, ids, high=0.9).tolist() == [True, False, False, False]
    assert gs.informative(rewards, ids, low=0.6).tolist() == [False, True, False, False]


def test_a_child_forked_after_use_computes_and_ends():
    script = """
import os, numpy as np, gspo_rs as gs
ids, rewards = np.arange(300_000) % 1000, np.arange(300_000) % 7.0
expected = gs.rank(rewards, ids)
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(gs.rank(rewards, ids), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=600)
