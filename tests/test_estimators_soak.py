"""Random rewards and ids of every kind against exact fractions and brute force."""

from collections import defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction
from math import isfinite, isnan

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import gspo_rs as gs

SIZES = (0, 1, 2, 7, 1000, 65537)
QUICK, FULL = 2_000, 200_000
ULP = 2.0**-52


def draw_rewards(rng, n):
    """Rewards of one kind, with NaN and both zeros among them."""
    kind = rng.integers(7)
    if kind == 0:
        found = rng.integers(0, 4, n) / 4
    elif kind == 1:
        found = rng.normal(size=n)
    elif kind == 2:
        found = rng.integers(-3, 4, n) * 5e-324
    elif kind == 3:
        found = rng.choice([-1e308, 1e308, 0.0, 1.0, -1e-308], n)
    elif kind == 4:
        found = np.full(n, rng.choice([0.95, 1e308, -5e-324, 0.1]))
    elif kind == 5:
        found = 1e9 + rng.integers(0, 3, n) * 1e-6
    else:
        found = rng.choice([0.0, -0.0, 1.0], n)
    missing = rng.random(n) < rng.choice([0.0, 0.1, 0.9])
    return np.where(missing, np.nan, found)


def as_given(rng, rewards):
    """The same rewards in another container or layout."""
    kind = rng.integers(6)
    if kind == 0:
        return np.repeat(rewards, 2)[::2]
    if kind == 1:
        return np.concatenate([[9.0], rewards])[1:]
    if kind == 2:
        frozen = rewards.copy()
        frozen.flags.writeable = False
        return frozen
    if kind == 3 and len(rewards) < 2000:
        return [None if isnan(r) else r for r in rewards.tolist()]
    if kind == 4:
        return pl.Series(rewards).fill_nan(None)
    return rewards


def ids_given(rng, ids):
    """The same ids in another type, container or layout."""
    kind = rng.integers(11)
    n = len(ids)
    text = pl.Series(ids, dtype=pl.Int64).cast(pl.String)
    if kind == 0:
        return ids.astype(rng.choice(["int8", "uint16", "int32", "uint64"]))
    if kind == 1:
        return np.repeat(ids, 3)[::3]
    if kind == 2 and n < 2000:
        return [f"group {i}" for i in ids]
    if kind == 3:
        return pl.concat([text[: n // 3], text[n // 3 :]], rechunk=False)
    if kind == 4:
        return text.cast(pl.Categorical)
    if kind == 5:
        return pa.chunked_array([pa.array(ids[: n // 2]), pa.array(ids[n // 2 :])])
    if kind == 6:
        return pa.array(np.concatenate([[77], ids])).slice(1)
    if kind == 7:
        return pa.array(text.to_list(), pa.string()).dictionary_encode()
    if kind == 8:
        return pa.array(text.to_list(), pa.string_view())
    if kind == 9:
        return pl.DataFrame({"a": pl.Series(ids // 3), "b": pl.Series(ids % 3)})
    frozen = ids.copy()
    frozen.flags.writeable = False
    return frozen


def fractions_of(rewards, members):
    """Exact rewards of the scorable members by row."""
    return {row: Fraction(rewards[row]) for row in members if not isnan(rewards[row])}


def exact_percentile(scored):
    n = len(scored)
    return {
        row: Fraction(sum((r > o) - (r < o) for o in scored.values()), n - 1)
        for row, r in scored.items()
    }


def exact_top(scored):
    n, q = len(scored), Fraction(0.2)
    shares = {}
    for row, r in scored.items():
        above = sum(o > r for o in scored.values())
        tied = sum(o == r for o in scored.values())
        shares[row] = min(max((q * n - above) / tied, Fraction(0)), Fraction(1)) - q
    return shares


def exact_mean(scored):
    mean = sum(scored.values(), Fraction(0)) / len(scored)
    return {row: r - mean for row, r in scored.items()}


def exact_rloo(scored):
    n, total = len(scored), sum(scored.values(), Fraction(0))
    return {row: r - (total - r) / (n - 1) for row, r in scored.items()}


def exact_gap(scored):
    second, best = sorted(scored.values())[-2:]
    return {row: (best - second) * (r == best) for row, r in scored.items()}


def exact_pkpo(scored):
    order = sorted(scored, key=scored.__getitem__)
    n = len(order)
    # Pairs: a member is the best of those with a lower one, or meets a higher one.
    higher, shares = Fraction(0), {}
    for below in range(n - 1, -1, -1):
        row = order[below]
        shares[row] = (below * scored[row] + higher) * Fraction(2, n * (n - 1))
        higher += scored[row]
    return shares


def deviation(scored):
    """The sample deviation, to sixty digits."""
    square = sum((centred**2 for centred in exact_mean(scored).values()), Fraction(0))
    square /= len(scored) - 1
    with localcontext() as context:
        context.prec = 60
        return Fraction((Decimal(square.numerator) / Decimal(square.denominator)).sqrt())


def exact_zscore(scored):
    scale = deviation(scored) + Fraction(1e-6)
    return {row: centred / scale for row, centred in exact_mean(scored).items()}


EXACT = {
    ("zscore", ("eps", 1e-6)): exact_zscore,
    ("percentile", ("scale", "none")): exact_percentile,
    ("top_fraction", ("q", 0.2)): exact_top,
    ("mean", ("weights", None)): exact_mean,
    ("rloo", ("weights", None)): exact_rloo,
    ("best_minus_second", ("weights", None)): exact_gap,
    ("pkpo", ("k", 2)): exact_pkpo,
}


def compare_exactly(rewards, groups, estimator, option, found):
    """Check every row of small groups against fractions."""
    for members in groups.values():
        scored = fractions_of(rewards, members)
        flat = len(set(scored.values())) < 2
        expected = {} if flat else EXACT[estimator, option](scored)
        reach = max((abs(r) for r in scored.values()), default=Fraction(0))
        scale = Fraction(1) if estimator in ("percentile", "top_fraction") else reach
        if estimator == "zscore" and not flat:
            # The rounding of the mean, in deviations.
            scale = max(Fraction(1), reach / (deviation(scored) + Fraction(1e-6)))
        # Every rounding costs an ulp of the reach, or the smallest number there is.
        slack = (scale * Fraction(ULP) + Fraction(5e-324)) * (4 + len(scored))
        for row in members:
            exact = expected.get(row, Fraction(0))
            if flat or row not in scored:
                assert found[row] == 0
            elif isfinite(found[row]):
                assert abs(Fraction(found[row]) - exact) <= slack, (row, found[row], exact)
            else:
                assert abs(exact) > Fraction(1.79e308)


def compare_large(rewards, groups, estimator, option, found):
    """Check large groups by NumPy's sort and longdouble sums."""
    for rows in groups.values():
        members = np.array(rows)
        scored = members[~np.isnan(rewards[members])]
        values = np.sort(rewards[scored].astype(np.longdouble))
        others, mine = max(len(values) - 1, 1), rewards[scored]
        if not len(values) or values[0] == values[-1]:
            assert not found[members].any()
        elif estimator == "percentile":
            less, most = (np.searchsorted(values, mine, side) for side in ("left", "right"))
            np.testing.assert_array_equal(found[scored], (less + most - len(values)) / others)
        elif estimator in ("mean", "rloo") and abs(values).max() < 1e300:
            factor = len(values) / others if estimator == "rloo" else 1
            expected = (mine - values.mean()) * factor
            slack = float(abs(values).max()) * ULP * 100 + 5e-324
            np.testing.assert_allclose(found[scored], expected.astype(float), rtol=0, atol=slack)
        assert not found[np.setdiff1d(members, scored)].any()


def check_case(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice(SIZES, p=[0.04, 0.1, 0.2, 0.62, 0.036, 0.004]) if seed % 40 else 1000)
    n = n if n in (0, 1, 2, 65537) else int(rng.integers(1, n + 1))
    n = min(n, 60) if rng.random() < 0.9 and n != 65537 else n
    ids = rng.integers(0, rng.choice([1, 2, 7, 100]), n)
    rewards = draw_rewards(rng, n)
    groups = defaultdict(list)
    for row, key in enumerate(ids.tolist()):
        groups[key].append(row)
    (estimator, option) = list(EXACT)[rng.integers(len(EXACT))]
    options = {} if option[1] is None else dict([option])
    cut = gs.Groups(ids_given(rng, ids))
    assert cut.n_groups == len(groups)
    found = gs.advantage(as_given(rng, rewards), cut, estimator, **options)
    assert found.shape == (n,)
    small = all(len(members) <= 64 for members in groups.values())
    compare = compare_exactly if small else compare_large
    compare(rewards, groups, estimator, option, found)
    order = rng.permutation(n)
    again = gs.advantage(rewards[order], ids[order], estimator, **options)
    assert ((found[order] + 0.0).view(np.int64) == (again + 0.0).view(np.int64)).all()


@pytest.mark.parametrize("block", range(4))
def test_advantages_of_random_cases_are_exact(block):
    for seed in range(block * QUICK // 4, (block + 1) * QUICK // 4):
        check_case(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_advantages_of_two_hundred_thousand_random_cases_are_exact(block):
    for seed in range(block * FULL // 100, (block + 1) * FULL // 100):
        check_case(seed)
