"""Every statistic of rows and groups, by value, on random rollouts of every size, kind and type."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

import gspo_rs as gs
from oracles import statistics as oracle
from oracles.cases import KINDS, SIZES, draw_case

QUICK, FULL = 1_000, 40_000
QS = [0.0, 0.1, 0.5, 0.77, 1.0]


def rank(v, method):
    return oracle.ranks(v, method), 0.0


def percentile(v):
    below, up_to = oracle.below_and_up_to(v)
    return ((below + up_to - 1) / 2 / (len(v) - 1) if len(v) > 1 else 0.5), oracle.ULP


# Of each row: what is computed, and what of a group's scorable rewards is expected.
OF_ROWS = {
    **{
        method: (
            lambda r, g, method=method: gs.rank(r, g, method),
            lambda v, method=method: rank(v, method),
        )
        for method in ("average", "min", "max", "dense", "ordinal")
    },
    "percentile": (gs.percentile, percentile),
    **{
        f"top {q}": (
            lambda r, g, q=q: gs.top_fraction(r, g, q),
            lambda v, q=q: oracle.share(v, q),
        )
        for q in (0.2, 0.5, 1.0)
    },
}


def quantiles(v):
    found = [oracle.quantile_of(v, q) if len(v) else (np.nan, 0) for q in QS]
    return tuple(np.array(part) for part in zip(*found, strict=True))


def pass_at_k(v, k, threshold):
    correct = int((v >= threshold).sum())
    miss = oracle.all_wrong(len(v), correct, k)
    found = np.nan if miss is None else float(1 - miss)
    return found, found * oracle.ULP * (16 + 4 * min(correct, k))


def best_of(v, k):
    return oracle.best_of(v, k) if len(v) >= k else (np.nan, 0.0)


OF_GROUPS = {
    "quantiles": (lambda r, g: gs.quantile(r, g, QS), quantiles),
    **{
        f"pass at {k} from {threshold}": (
            lambda r, g, k=k, threshold=threshold: gs.pass_at_k(r, g, k, threshold),
            lambda v, k=k, threshold=threshold: pass_at_k(v, k, threshold),
        )
        for k, threshold in product((1, 3, 8), (0.5, 0.0))
    },
    **{
        f"best of {k}": (
            lambda r, g, k=k: gs.best_of_n(r, g, k),
            lambda v, k=k: best_of(v, k),
        )
        for k in (1, 2, 7)
    },
}
NAMES = [*OF_ROWS, *OF_GROUPS, "stats", "informative"]


def by_appearance(case):
    """The rows of each group, the groups in the order in which they come."""
    return sorted(case.groups(), key=lambda rows: rows[0])


def scored_in(case, rows):
    rewards = case.rewards[rows, 0]
    kept = ~np.isnan(rewards)
    return rows[kept], rewards[kept].astype(np.longdouble) + 0


def check_near(found, expected, slack):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(np.asarray(expected, dtype=float)))
    wrong = np.abs(found - expected) > slack
    assert not np.any(wrong), (found, expected)


def check_rows(case, groups, name):
    call, formula = OF_ROWS[name]
    found = np.asarray(call(case.given(case.rewards[:, 0]), groups))
    rest = np.ones(case.n, dtype=bool)
    for rows in case.groups():
        scored, v = scored_in(case, rows)
        if len(v):
            check_near(found[scored], *formula(v))
        rest[scored] = False
    assert np.isnan(found[rest]).all()


def check_groups(case, groups, name):
    call, formula = OF_GROUPS[name]
    found = np.asarray(call(case.given(case.rewards[:, 0]), groups))
    expected = [scored_in(case, rows)[1] for rows in by_appearance(case)]
    assert len(found) == len(expected)
    for value, v in zip(found, expected, strict=True):
        check_near(value, *formula(v))


def check_stats(case, groups):
    rows_of = by_appearance(case)
    scored = [scored_in(case, rows)[1] for rows in rows_of]
    spreads = [oracle.deviation(v) if len(v) > 1 else np.longdouble(np.nan) for v in scored]
    given = case.given(case.rewards[:, 0])
    if np.fmax.reduce(spreads, initial=0) > oracle.LARGEST:
        with pytest.raises(ValueError, match="leaves the range of float64"):
            gs.stats(given, groups)
        return
    fields = vars(gs.stats(given, groups))
    found = SimpleNamespace(**{name: np.asarray(fields[name]) for name in fields})
    assert found.size.tolist() == [len(rows) for rows in rows_of]
    assert found.scored.tolist() == [len(v) for v in scored]
    assert found.distinct.tolist() == [len(np.unique(v)) for v in scored]
    for g, v in enumerate(scored):
        of_one = (found.mean[g], found.min[g], found.max[g], found.median[g])
        if not len(v):
            assert np.isnan(of_one).all()
            assert np.isnan(found.std[g])
            continue
        assert of_one[1:3] == (v.min(), v.max())
        check_near(of_one[0], v.mean(), oracle.slack_of(v))
        check_near(of_one[3], *oracle.quantile_of(v, 0.5))
        check_near(found.std[g], spreads[g], oracle.slack_of(v))


def check_informative(case, groups, rng):
    low, high = np.sort(rng.normal(0.4, 0.5, 2))
    found = gs.informative(case.given(case.rewards[:, 0]), groups, low, high)
    plain = gs.informative(case.given(case.rewards[:, 0]), groups)
    for g, rows in enumerate(by_appearance(case)):
        _, v = scored_in(case, rows)
        differs = len(v) > 0 and v.min() < v.max()
        assert plain[g] == differs
        assert found[g] == (differs and low <= v.mean() <= high)


def check(rng, n, kind, name, n_groups=None):
    case = draw_case(rng, n, kind, n_groups)
    groups = gs.Groups(case.given_ids, null_ids="drop")
    if name in OF_ROWS:
        check_rows(case, groups, name)
    elif name in OF_GROUPS:
        check_groups(case, groups, name)
    elif name == "stats":
        check_stats(case, groups)
    else:
        check_informative(case, groups, rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_statistics_of_groups_of_up_to_a_thousand_are_those_of_the_formulas(name):
    for seed, (n, kind) in enumerate(product(SIZES[:-1], KINDS)):
        for n_groups in (1, 9):
            check(np.random.default_rng([seed, n_groups]), n, kind, name, n_groups)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_of_a_group_of_65537_are_those_of_the_formulas(name):
    kind = KINDS[NAMES.index(name) % len(KINDS)]
    check(np.random.default_rng(1), SIZES[-1], kind, name, 1)


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_groups_of_65537_of_all_kinds_are_those_of_the_formulas(name, kind):
    for n_groups in (1, 9):
        check(np.random.default_rng(n_groups), SIZES[-1], kind, name, n_groups)


def check_random(seed):
    rng = np.random.default_rng([1, seed])
    n = int(rng.choice([0, 1, 2, 7, 60, 1000], p=[0.03, 0.07, 0.2, 0.36, 0.3, 0.04]))
    check(rng, n if n < 3 else int(rng.integers(1, n + 1)), None, rng.choice(NAMES))


@pytest.mark.parametrize("block", range(4))
def test_statistics_of_random_rollouts_are_those_of_the_formulas(block):
    for seed in range(block * QUICK // 4, (block + 1) * QUICK // 4):
        check_random(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_statistics_of_random_rollouts_are_those_of_the_formulas_40_000_times(block):
    for seed in range(block * FULL // 100, (block + 1) * FULL // 100):
        check_random(seed)
