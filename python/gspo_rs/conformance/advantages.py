"""Checks of an advantage function on groups, ties and constants, against our estimators.

An advantage has the signature ``f(rewards, groups)`` on arrays (n,) and returns an array (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.conformance.probe import TOLERANCE, Finding
from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.estimators import ESTIMATORS

AdvantageFunction = Callable[[Floats, NDArray[np.int64]], Any]

# Two groups of four, two of three, interleaved; no ties, none constant, unlike deviations.
REWARDS = np.array([0.3, 2.0, 0.9, 0.1, 1.4, 0.2, 0.7, 3.1, 1.9, 0.6, 2.6, 1.1, 0.8, 5.0])
GROUPS = np.array([5, 9, 5, 2, 9, 5, 2, 9, 2, 5, 9, 7, 7, 7])


def estimate(function: AdvantageFunction, rewards: Any, groups: Any) -> Floats:
    """Return the advantages as float64.

    Raises
    ------
    TypeError
        If the function does not return one number per reward.
    """
    given = np.array(rewards, dtype=np.float64), np.array(groups, dtype=np.int64)
    found = np.asarray(function(given[0].copy(), given[1].copy()), dtype=np.float64)
    if found.shape != given[0].shape:
        raise TypeError(f"the advantage has shape {found.shape} for {len(given[0])} rewards")
    return found


def estimator_name(function: AdvantageFunction) -> str:
    """Return the estimator that a function is, up to a factor for each group size."""
    found = estimate(function, REWARDS, GROUPS)
    # In a single batch these are multiples of `mean`; only the multiple tells them apart.
    one_reward = {name: known for name, known in ESTIMATORS.items() if known.free}
    for name in (name for name, known in one_reward.items() if known.scope == "batch"):
        if np.allclose(found, advantage(REWARDS, GROUPS, name), rtol=1e-3):
            return name
    for name in (name for name, known in one_reward.items() if not known.composed):
        options: dict[str, Any] = dict.fromkeys({"eps"} & ESTIMATORS[name].options.keys(), 0.0)
        if _factors(found, advantage(REWARDS, GROUPS, name, **options)) is not None:
            return name
    return "no estimator of gspo_rs"


def advantage_findings(function: AdvantageFunction) -> Iterator[Finding]:
    """Yield the faults of an advantage function."""
    yield from _grouping_findings(function)
    yield from _tie_findings(function)
    yield from _edge_findings(function)
    found = estimate(function, REWARDS, GROUPS)
    name = estimator_name(function)
    if name == "zscore":
        yield from _deviation_findings(found)
    if name == "no estimator of gspo_rs":
        shifted = estimate(function, REWARDS + 10.0, GROUPS)
        if not np.allclose(shifted, found, rtol=TOLERANCE, atol=TOLERANCE):
            yield Finding(
                "no baseline",
                "rewards that are all 10 higher change the advantages; subtract the mean of the "
                "group",
            )


def _factors(found: Floats, expected: Floats) -> dict[int, float] | None:
    """Return the factor of each group size, or None where there is no one factor in a group."""
    factors: dict[int, float] = {}
    for group in np.unique(GROUPS):
        mine, theirs = found[group == GROUPS], expected[group == GROUPS]
        factor = float(mine @ theirs / max(theirs @ theirs, 1e-30))
        first = factors.setdefault(len(mine), factor)
        alike = np.allclose(mine, factor * theirs, rtol=1e-3, atol=1e-6)
        if not alike or abs(factor) < 1e-9 or abs(factor / first - 1) > 1e-3:
            return None
    return factors


def _deviation_findings(found: Floats) -> Iterator[Finding]:
    factors = _factors(found, advantage(REWARDS, GROUPS, "zscore", eps=0.0)) or {}
    if all(abs(f - np.sqrt(n / (n - 1))) < 1e-3 for n, f in factors.items()):
        sizes = ", ".join(f"{f:.3f} in a group of {n}" for n, f in sorted(factors.items()))
        yield Finding(
            "biased std",
            f"the deviation divides by N, not by N - 1: advantages are larger by {sizes} (use "
            "ddof=1)",
        )


def _grouping_findings(function: AdvantageFunction) -> Iterator[Finding]:
    rewards, mixed, sorted_ = REWARDS[:12], np.tile([0, 1, 2], 4), np.repeat([0, 1, 2], 4)
    found = estimate(function, rewards, mixed)
    order = np.array([7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 6, 4])
    again = estimate(function, rewards[order], mixed[order])
    moves = np.allclose(again, found[order], rtol=TOLERANCE, atol=TOLERANCE)
    unread = np.array_equal(found, estimate(function, rewards, sorted_))
    if unread and not moves:
        yield Finding(
            "groups by position",
            "interleaved groups give the same advantages as consecutive ones: the ids are not "
            "read; row i need not belong to group i // N",
        )
        return
    if not moves:
        yield Finding("order of rows", "the rows in another order get other advantages")
    alone = estimate(function, rewards[mixed == 0], mixed[mixed == 0])
    known = ESTIMATORS.get(estimator_name(function))
    scaled = known is not None and known.scope == "batch"
    if not scaled and not np.allclose(alone, found[mixed == 0], rtol=TOLERANCE, atol=TOLERANCE):
        yield Finding(
            "statistics of the batch",
            "a group gets other advantages when other groups stand beside it; mean and deviation "
            "are those of its own group",
        )


def _tie_findings(function: AdvantageFunction) -> Iterator[Finding]:
    found = estimate(function, [1.0, 0.0, 1.0, 2.0, 1.0], [0] * 5)
    if np.ptp(found[[0, 2, 4]]) > TOLERANCE:
        yield Finding(
            "ties broken by position",
            f"equal rewards get {found[0]:.4g}, {found[2]:.4g} and {found[4]:.4g}; tied members "
            "share their mean rank",
        )
    worst = max(
        (float(np.abs(estimate(function, [v] * n, [0] * n)).max()), v, n)
        for v in (1.0, 0.95, 0.1, 0.7)
        for n in (4, 6, 8)
    )
    if worst[0] > TOLERANCE:
        yield Finding(
            "constant groups get a gradient",
            f"{worst[2]} rewards of {worst[1]} get advantages up to {worst[0]:.3g}; a group with "
            "max == min has advantage exactly 0, which std > 0 does not detect",
        )
    zeros = estimate(function, [0.0, -0.0, 1.0], [0] * 3)
    if abs(zeros[0] - zeros[1]) > TOLERANCE:
        yield Finding("minus zero", "0.0 and -0.0 get other advantages; compare by ==")


def _edge_findings(function: AdvantageFunction) -> Iterator[Finding]:
    lone = estimate(function, [3.0, 1.0, 2.0], [0, 1, 1])[0]
    if lone != 0:
        yield Finding("lone member", f"a group of one gets advantage {lone:.4g}, not 0")
    found = estimate(function, [1.0, np.nan, 0.0, 0.5], [0] * 4)
    if np.isnan(found[[0, 2, 3]]).any():
        yield Finding(
            "NaN spreads",
            "one reward that is NaN makes its whole group NaN; leave it out of the statistics and "
            "give it advantage 0",
        )
    elif np.isnan(found[1]) or found[1] != 0:
        yield Finding("NaN reward", f"a reward that is NaN gets advantage {found[1]:.4g}, not 0")
