"""Filter rows by rules on the rewards of whole groups, or on a row's own reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs.files.rules import WORDS, Rule, parse
from gspo_rs.groups.checks import Floats, as_rewards
from gspo_rs.groups.decimals import highest, lowest, share_within
from gspo_rs.groups.groups import Groups, as_groups
from gspo_rs.groups.statistics import GroupStats, mean_within, rank, spread_within, stats

__all__ = ["NO_GROUP", "WORDS", "Chosen", "Rule", "filter_rows", "parse", "refuse_empty"]

NO_GROUP = "no group"


@dataclass(frozen=True)
class Chosen:
    """The rows that the rules keep.

    Attributes
    ----------
    mask : ndarray of bool, shape (n,)
        True for a row that is kept.
    dropped : dict of str to int
        How many rows each rule dropped, in the order of the rules. A row counts for the first
        rule that drops it, so that kept and dropped rows add up to n.
    """

    mask: NDArray[np.bool_]
    dropped: dict[str, int]


def filter_rows(rewards: ArrayLike, groups: Any, rules: Sequence[Rule]) -> Chosen:
    """Return which rows pass all rules.

    Parameters
    ----------
    rewards : array_like of float, shape (n,)
        The rewards as given, even where something else is ranked; NaN or null where there is
        none.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.
    rules : sequence of Rule
        What `parse` returns. Each looks at the whole group, whatever the others drop: their
        order decides which one a row is counted for, never which rows are kept.

    Returns
    -------
    Chosen

    Raises
    ------
    ValueError
        As `gspo_rs.stats`.

    Notes
    -----
    A row of no group (``null_ids="drop"``) is kept only where there is no rule, and a row
    without a reward is in the best of no group.

    ``top:q`` keeps a row if more than half of it lies in the best `q` of its group, where tied
    rows share their places evenly (`gspo_rs.top_fraction`). Tied rows thus stay or go together,
    and a group of N keeps as near to ``q N`` rows as its ties allow: none, where the best of
    them tie more than ``2 q N`` times. ``best:k`` is for a number of rows: it keeps `k` of each
    group, or all scorable ones of a smaller one, and takes tied rows in the order of the data.

    Examples
    --------
    >>> chosen = filter_rows(
    ...     [1.0, 0.0, 0.0, 5.0], ["a", "a", "a", "b"], parse("informative,best:1")
    ... )
    >>> chosen.mask, chosen.dropped
    (array([ True, False, False, False]), {'informative': 1, 'best:1': 2})
    """
    found, cut = as_rewards(rewards), as_groups(groups)
    if not rules:
        return Chosen(np.ones(len(found), dtype=np.bool_), {})
    described = stats(found, cut)
    mask = cut.codes >= 0
    dropped = {} if mask.all() else {NO_GROUP: int((~mask).sum())}
    for rule in rules:
        left = mask & _passes(rule, found, described)
        dropped[rule.text] = dropped.get(rule.text, 0) + int(mask.sum() - left.sum())
        mask = left
    return Chosen(mask, dropped)


def refuse_empty(left: int, dropped: Mapping[str, int], name: str, *, allow_empty: bool) -> None:
    """Raise if the rules leave no row of a source, unless that is allowed.

    Raises
    ------
    ValueError
        With the rows that each rule dropped.

    Examples
    --------
    >>> refuse_empty(0, {"informative": 8}, "in.parquet", allow_empty=False)
    Traceback (most recent call last):
        ...
    ValueError: no row of in.parquet is left: informative drops 8; --allow-empty writes none
    """
    if left or allow_empty:
        return
    rules = ", ".join(f"{rule} drops {rows:,}" for rule, rows in dropped.items() if rows)
    found = rules or "it has none"
    raise ValueError(f"no row of {name} is left: {found}; --allow-empty writes none")


def _passes(rule: Rule, rewards: Floats, described: GroupStats) -> NDArray[np.bool_]:
    """Return for each row whether it passes one rule; arbitrary for a row without a group."""
    groups = described.groups
    match rule.word:
        case "scored":
            return ~np.isnan(rewards)
        case "reward":
            low = -math.inf if rule.low is None else lowest(rule.low)
            high = math.inf if rule.high is None else highest(rule.high)
            return (rewards >= low) & (rewards <= high)
        case "top":
            return _top(rewards, groups, described.scored[groups.codes], rule)
        case "best":
            # Of the negatives, so that the first of tied rows comes first.
            return np.asarray(rank(-rewards, groups, "ordinal") <= _whole(rule.low, 0))
    return _groups_pass(rule, rewards, described)[groups.codes]


def _groups_pass(rule: Rule, rewards: Floats, described: GroupStats) -> NDArray[np.bool_]:
    """Return for each group whether its rows pass one rule."""
    match rule.word:
        case "informative":
            return described.informative
        case "size":
            least, most = _whole(rule.low, 0), _whole(rule.high, 2**62)
            return (described.size >= least) & (described.size <= most)
        case "mean":
            return mean_within(rewards, described, rule.low, rule.high)
        case "min-spread":
            assert rule.low is not None
            return spread_within(described, rule.low)
        case _:
            right = _count(rewards >= rule.threshold, described.groups)
            return share_within(right, described.scored, rule.low, rule.high)


def _whole(bound: Fraction | None, otherwise: int) -> int:
    return otherwise if bound is None else min(int(bound), 2**62)


def _count(rows: NDArray[np.bool_], groups: Groups) -> NDArray[np.int64]:
    """Count the true rows of each group."""
    return np.bincount(groups.codes[rows & (groups.codes >= 0)], minlength=groups.n_groups)


def _top(
    rewards: Floats, groups: Groups, scored: NDArray[np.int64], rule: Rule
) -> NDArray[np.bool_]:
    """Tell whether more than half of each row lies in the best `q`, in whole numbers.

    With `a` rows above and `t` tied ones of N, ``(q N - a) / t > 1 / 2``.
    """
    share = rule.low
    assert share is not None
    highest = rank(rewards, groups, "max")
    unscored = np.isnan(highest)
    highest = np.where(unscored, 0.0, highest)
    lowest = np.where(unscored, 0.0, rank(rewards, groups, "min"))
    above_and_below = 2 * scored - (highest + lowest - 1).astype(np.int64)  # 2 a + t
    inside = 2 * share.numerator * scored > share.denominator * above_and_below
    kept: NDArray[np.bool_] = inside & ~unscored
    return kept
