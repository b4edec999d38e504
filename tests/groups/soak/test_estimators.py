"""Advantages of small groups against exact fractions, and to the bit in any order of the rows."""

from decimal import Decimal, localcontext
from fractions import Fraction
from math import isnan

import numpy as np
import pytest

import gspo_rs as gs
from oracles.cases import draw_case

QUICK, FULL = 1_000, 40_000
ULP = 2.0**-52
LARGEST = Fraction(np.finfo(np.float64).max)


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


def exact_advantages(rewards, groups, formula):
    """By row: the exact advantage, and the size of what is rounded on the way to it."""
    found = {}
    for members in groups:
        scored = fractions_of(rewards, members)
        flat = len(set(scored.values())) < 2
        expected = {} if flat else formula(scored)
        reach = max((abs(r) for r in scored.values()), default=Fraction(0))
        scale = Fraction(1) if formula in (exact_percentile, exact_top) else reach
        if formula is exact_zscore and not flat:
            # The rounding of the mean, in deviations.
            scale = max(Fraction(1), reach / (deviation(scored) + Fraction(1e-6)))
        # Every rounding costs an ulp of the reach, or the smallest number there is.
        slack = (scale * Fraction(ULP) + Fraction(5e-324)) * (4 + len(scored))
        for row in members.tolist():
            rounds = expected and row in scored
            found[row] = (expected.get(row, Fraction(0)), slack if rounds else Fraction(0))
    return found


def check_case(seed):
    rng = np.random.default_rng(seed)
    case = draw_case(rng, int(rng.integers(0, 61)))
    rewards = case.rewards[:, 0]
    (estimator, option), formula = list(EXACT.items())[rng.integers(len(EXACT))]
    options = {} if option[1] is None else dict([option])
    groups = gs.Groups(case.given_ids, null_ids="drop")
    expected = exact_advantages(rewards, case.groups(), formula)
    if any(abs(exact) > LARGEST for exact, _ in expected.values()):
        with pytest.raises(ValueError, match="leaves the range of float64"):
            gs.advantage(case.given(rewards), groups, estimator, **options)
        return
    found = np.asarray(gs.advantage(case.given(rewards), groups, estimator, **options))
    for row, (exact, slack) in expected.items():
        assert abs(Fraction(found[row]) - exact) <= slack, (row, found[row], exact)
    order = rng.permutation(np.flatnonzero(case.ids >= 0))
    again = gs.advantage(rewards[order], case.ids[order], estimator, **options)
    assert ((found[order] + 0.0).view(np.int64) == (again + 0.0).view(np.int64)).all()


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_advantages_of_random_cases_are_exact(block):
    for seed in range(block * QUICK // 4, (block + 1) * QUICK // 4):
        check_case(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_advantages_of_forty_thousand_random_cases_are_exact(block):
    for seed in range(block * FULL // 100, (block + 1) * FULL // 100):
        check_case(seed)
