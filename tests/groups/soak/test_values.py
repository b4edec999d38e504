"""Every estimator and statistic, by value, on random rollouts of every size, kind and type."""

from itertools import product

import numpy as np
import pytest

import gspo_rs as gs
from gspo_rs.groups.estimators import ESTIMATORS
from oracles import statistics as oracle
from oracles.cases import KINDS, SIZES, draw_case

QUICK, FULL = 1_000, 120_000
# Kinds with few distinct rewards, for what takes O(n²) time otherwise.
FEW = ("quarters", "subnormal", "extreme", "close", "zeros", "binary")
WEIGHTS = (1.0, 0.3, -0.2)
POOL = np.array([-1e308, -1.0, 0.0, 0.25, 0.25, 0.5, 1.0, 1e9])

VARIANTS = [
    *(
        ("percentile", {"scale": scale, "ties": ties})
        for scale, ties in product(("unit", "none"), ("midrank", "min", "max", "dense", "ordinal"))
    ),
    ("percentile", {"pool": POOL}),
    *(("top_fraction", {"q": q}) for q in (0.2, 0.5, 1.0, 1e-3)),
    *(("normal", {"scores": scores}) for scores in ("van_der_waerden", "blom")),
    *(("soft_winrate", {"tau": tau}) for tau in (1e-3, 0.5, 1e300)),
    *((name, {}) for name in ("gopo", "mean", "rloo", "zscore", "batch_std", "reinforce_pp")),
    ("zscore", {"ddof": 0, "eps": 0.0}),
    ("batch_std", {"eps": 0.5}),
    ("reinforce_pp", {"eps": 0.5}),
    ("quantile", {}),
    ("quantile", {"k": 1.0, "ddof": 0, "eps": 0.0}),
    ("maxrl", {}),
    ("best_minus_second", {}),
    *(("pass_at_k", {"k": k}) for k in (1, 2, 5)),
    ("pass_at_k", {"k": 3, "threshold": 0.0}),
    *(
        ("pkpo", {"k": k, "baseline": baseline})
        for k, baseline in product((1, 2, 5), ("none", "leave_one_out"))
    ),
    ("opo", {}),
    ("gdpo", {}),
    ("gdpo", {"weights": WEIGHTS, "eps": 1e-4}),
    ("borda", {}),
    ("borda", {"weights": WEIGHTS}),
]
GROUP_BY_GROUP = {
    name: getattr(oracle, name)
    for name in ESTIMATORS
    if name not in ("batch_std", "reinforce_pp", "opo", "gdpo", "borda")
}


def each_group(case, rewards, formula):
    """What `formula` says of each group with two different rewards, 0 elsewhere."""
    found = np.zeros(case.n, dtype=np.longdouble)
    slack = np.zeros(case.n)
    for rows in case.groups():
        scored = rows[~np.isnan(rewards[rows])]
        v = rewards[scored].astype(np.longdouble) + 0
        if len(v) and v.min() < v.max():
            found[scored], slack[scored] = formula(v, scored)
    return found, slack


def over_batch(found, slack, centred, eps):
    """Standardise what is scored; `centred` is what the deviation is of."""
    spread = oracle.deviation(centred) if len(centred) > 1 else np.longdouble(0)
    if not spread > 0:
        return found, slack
    scale = spread + np.longdouble(eps)
    # The deviation is as uncertain as the values that it is of.
    unsure = np.sqrt(np.mean(slack**2)) / scale + oracle.ULP * (8 + np.log2(len(centred)))
    return found / scale, slack / scale + unsure * np.abs(found / scale) + oracle.TINY


def of_batch(case, rewards, name, options):
    """The estimators that look at more than the rewards of one group."""
    member = case.ids >= 0
    if name in ("gdpo", "borda"):
        inner = oracle.zscore if name == "gdpo" else oracle.percentile
        inside = {"eps": options.get("eps", 1e-8)} if name == "gdpo" else {"scale": "none"}
        parts = [each_group(case, r, lambda v, _: inner(v, **inside)) for r in rewards.T]
        weights = np.longdouble(options.get("weights", np.ones(3)))
        total = sum(w * found for w, (found, _) in zip(weights, parts, strict=True))
        slack = sum(
            abs(w) * (s + oracle.ULP * abs(f)) for w, (f, s) in zip(weights, parts, strict=True)
        )
        scored = member & ~np.isnan(rewards).all(axis=1)
        if name == "borda":
            return total, slack + oracle.ULP
        return over_batch(total, slack, total[scored], inside["eps"])
    if name == "opo":
        return each_group(case, rewards, lambda v, rows: oracle.opo(v, case.lengths[rows]))
    centred, slack = each_group(case, rewards, lambda v, _: oracle.mean(v))
    slack[slack > 0] += 4 * oracle.TINY  # a batch that holds huge rewards is made smaller first
    scored = member & ~np.isnan(rewards)
    if name == "batch_std":
        raw = rewards[scored].astype(np.longdouble)
        return over_batch(centred, slack, raw, options.get("eps", 1e-4))
    return over_batch(centred, slack, centred[scored], options.get("eps", 1e-8))


def against_pool(case, rewards):
    below = (POOL[:, None] < rewards).sum(axis=0)
    share = (below + (POOL[:, None] <= rewards).sum(axis=0)) / np.longdouble(2 * len(POOL))
    return each_group(case, np.where(np.isnan(rewards), np.nan, share), lambda v, _: oracle.mean(v))


def expected_of(case, rewards, name, options):
    if "pool" in options:
        return against_pool(case, rewards)
    if name in GROUP_BY_GROUP:
        return each_group(case, rewards, lambda v, _: GROUP_BY_GROUP[name](v, **options))
    return of_batch(case, rewards, name, options)


def compare(found, expected, slack):
    """Within the slack where the oracle knows a value, and never infinite or NaN."""
    assert np.isfinite(found).all()
    known = ~np.isnan(expected)
    wrong = np.abs(found - expected)[known] > np.broadcast_to(slack, found.shape)[known]
    assert not wrong.any(), (found[known][wrong][:3], expected[known][wrong][:3])


def check_advantage(case, name, options):
    rewards = case.rewards if name in ("gdpo", "borda") else case.rewards[:, 0]
    rewards = np.abs(rewards) if name == "maxrl" else rewards
    with np.errstate(over="ignore", invalid="ignore"):
        expected, slack = expected_of(case, rewards, name, options)
    given = dict(options) | ({"lengths": case.lengths} if name == "opo" else {})
    groups = gs.Groups(case.given_ids, null_ids="drop")
    assert groups.n_groups == len(case.groups())
    if np.nanmax(np.abs(expected), initial=0) > oracle.LARGEST:
        with pytest.raises(ValueError, match="leaves the range of float64"):
            gs.advantage(case.given(rewards), groups, name, **given)
        return
    found = np.asarray(gs.advantage(case.given(rewards), groups, name, **given))
    assert found.shape == (case.n,)
    assert np.isnan(found[case.ids < 0]).all()
    compare(found[case.ids >= 0], expected[case.ids >= 0], slack[case.ids >= 0])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_has_an_oracle(name):
    assert name in {variant for variant, _ in VARIANTS}


def sizes(name):
    """Sizes with kinds: all but the largest of every kind."""
    for n, kind in product(SIZES, KINDS):
        if n < 2000:
            yield n, kind
    yield from ((SIZES[-1], kind) for kind in (FEW if name == "soft_winrate" else KINDS))


def check_sizes(variant, largest):
    name, options = VARIANTS[variant]
    for seed, (n, kind) in enumerate(sizes(name)):
        if (n == SIZES[-1]) == largest:
            for n_groups in (1, 9):
                rng = np.random.default_rng([variant, seed, n_groups])
                check_advantage(draw_case(rng, n, kind, n_groups), name, options)


@pytest.mark.slow
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_groups_of_up_to_a_thousand_have_the_advantages_of_the_formulas(variant):
    check_sizes(variant, largest=False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_a_group_of_65537_with_few_distinct_rewards_has_those_of_the_formulas(variant):
    case = draw_case(np.random.default_rng(variant), SIZES[-1], FEW[variant % len(FEW)], 1)
    check_advantage(case, *VARIANTS[variant])


@pytest.mark.soak
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_groups_of_65537_of_all_kinds_have_those_of_the_formulas(variant):
    check_sizes(variant, largest=True)


def check_random(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice(SIZES, p=[0.03, 0.1, 0.2, 0.6299, 0.04, 0.0001]))
    n = n if n in (0, 1, 2, 65537) else int(rng.integers(1, n + 1))
    name, options = VARIANTS[rng.integers(len(VARIANTS))]
    kind = rng.choice(FEW) if name == "soft_winrate" and n > 100 else None
    check_advantage(draw_case(rng, n, kind), name, options)


@pytest.mark.parametrize("block", range(4))
def test_advantages_of_random_rollouts_are_those_of_the_formulas(block):
    for seed in range(block * QUICK // 4, (block + 1) * QUICK // 4):
        check_random(seed)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(100))
def test_advantages_of_random_rollouts_are_those_of_the_formulas_120_000_times(block):
    for seed in range(block * FULL // 100, (block + 1) * FULL // 100):
        check_random(seed)
