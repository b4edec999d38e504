"""Which rows to keep: a line of rules such as ``informative,pass-rate:0.1..0.9,top:0.25``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs.groups import Groups, as_groups
from gspo_rs.row_columns import Floats, as_rewards
from gspo_rs.statistics import GroupStats, rank, stats

__all__ = ["NO_GROUP", "WORDS", "Chosen", "Rule", "choose", "parse"]

# The word of a rule, and how its value is written.
WORDS: Mapping[str, str] = {
    "all": "",
    "scored": "",
    "informative": "",
    "size": "4..16",
    "pass-rate": "0.1..0.9",
    "mean": "-1..1",
    "min-spread": "0.5",
    "top": "0.2",
    "best": "1",
}
RANGES = ("size", "pass-rate", "mean")
RIGHT = 0.5  # as in `gspo_rs.pass_at_k`
NO_GROUP = "no group"


@dataclass(frozen=True)
class Rule:
    """One rule; `text` is how it was written, and the reason of the rows that it drops.

    A rule of one value has it in `low`; a range has None where it is open.
    """

    text: str
    word: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chosen:
    """What the rules keep.

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


def parse(text: str) -> tuple[Rule, ...]:
    """Read rules, joined by commas.

    Parameters
    ----------
    text : str
        ``all``, alone; or any of

        ``scored``
            rows that have a reward;
        ``informative``
            groups that prefer one member to another;
        ``size:4..16``
            groups of so many members, unscorable ones included;
        ``pass-rate:0.1..0.9``
            groups with such a share of rewards of at least 0.5, of the scorable ones;
        ``mean:-1..1``
            groups with such a mean reward;
        ``min-spread:0.5``
            groups whose highest reward is at least this far above the lowest;
        ``top:0.2``
            the best fraction of each group, ties as a whole;
        ``best:1``
            so many rows of each group, the best ones.

        Both ends of a range belong to it, and one may be left out: ``size:4..``.

    Returns
    -------
    tuple of Rule
        Empty for ``all``.

    Raises
    ------
    ValueError
        For an unknown word, which lists the known ones, and for a value that makes no sense.

    Examples
    --------
    >>> parse("informative, size:4..")[1]
    Rule(text='size:4..', word='size', low=4.0, high=None)
    """
    rules = tuple(_rule(part.strip()) for part in text.split(","))
    if any(rule.word == "all" for rule in rules):
        if len(rules) > 1:
            raise ValueError(f"keep={text!r}: 'all' stands alone; leave it out")
        return ()
    return rules


def choose(rewards: ArrayLike, groups: Any, rules: Sequence[Rule]) -> Chosen:
    """Tell which rows all of the rules keep.

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
    >>> chosen = choose([1.0, 0.0, 0.0, 5.0], ["a", "a", "a", "b"], parse("informative,best:1"))
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


def _passes(rule: Rule, rewards: Floats, described: GroupStats) -> NDArray[np.bool_]:
    """Tell for each row whether it passes one rule; anything for a row of no group."""
    groups = described.groups
    match rule.word:
        case "scored":
            return ~np.isnan(rewards)
        case "top":
            assert rule.low is not None
            return _top(rewards, groups, described.scored[groups.codes], rule.low)
        case "best":
            assert rule.low is not None
            # Of the negatives, so that the first of tied rows comes first.
            return np.asarray(rank(-rewards, groups, "ordinal") <= rule.low)
        case "informative":
            return described.informative[groups.codes]
        case "size":
            values = described.size.astype(np.float64)
        case "mean":
            values = described.mean
        case "min-spread":
            values = described.max - described.min
        case _:
            right = np.where(np.isnan(rewards), np.nan, rewards >= RIGHT)
            values = stats(right, groups).mean
    low = -math.inf if rule.low is None else rule.low
    high = math.inf if rule.high is None else rule.high
    return ((low <= values) & (values <= high))[groups.codes]


def _top(rewards: Floats, groups: Groups, scored: NDArray[np.int64], q: float) -> NDArray[np.bool_]:
    """Tell whether more than half of each row lies in the best `q`, in whole numbers.

    With `a` rows above and `t` tied ones of N, ``(q N - a) / t > 1 / 2``.
    """
    # The fraction as it is written: 0.2 is 1/5, whatever its nearest float64.
    share = Fraction(str(q))
    highest = rank(rewards, groups, "max")
    unscored = np.isnan(highest)
    highest = np.where(unscored, 0.0, highest)
    lowest = np.where(unscored, 0.0, rank(rewards, groups, "min"))
    above_and_below = 2 * scored - (highest + lowest - 1).astype(np.int64)  # 2 a + t
    inside = 2 * share.numerator * scored > share.denominator * above_and_below
    return inside & ~unscored


def _rule(text: str) -> Rule:
    word, colon, value = text.partition(":")
    if word not in WORDS:
        known = ", ".join(f"{name}:{form}" if form else name for name, form in WORDS.items())
        raise ValueError(f"keep={text!r}: unknown rule {word!r}; use {known}")
    low, dots, high = value.partition("..")
    if bool(colon) != bool(WORDS[word]) or bool(dots) != (word in RANGES):
        form = f"{word}:{WORDS[word]}" if WORDS[word] else word
        raise ValueError(f"keep={text!r}: write it as {form}")
    if not colon:
        return Rule(text, word)
    rule = Rule(text, word, _number(text, low), _number(text, high) if dots else None)
    _check(rule)
    return rule


def _number(text: str, value: str) -> float | None:
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"keep={text!r}: {value!r} is not a finite number")
    return number


def _check(rule: Rule) -> None:
    given = [value for value in (rule.low, rule.high) if value is not None]
    if not given:
        raise ValueError(f"keep={rule.text!r}: a number is missing")
    if len(given) == 2 and given[0] > given[1]:
        raise ValueError(f"keep={rule.text!r}: the range is empty; the lower end comes first")
    problem = ""
    if rule.word in ("size", "best") and not all(v == int(v) and v >= 1 for v in given):
        problem = "a whole number from 1"
    elif rule.word == "pass-rate" and not all(0 <= value <= 1 for value in given):
        problem = "between 0 and 1"
    elif rule.word == "min-spread" and given[0] < 0:
        problem = "at least 0"
    elif rule.word == "top" and not (0 < given[0] <= 1 and _denominator(given[0]) <= 10**9):
        problem = "above 0, at most 1, and written with at most nine decimals"
    if problem:
        raise ValueError(f"keep={rule.text!r}: the value must be {problem}")


def _denominator(value: float) -> int:
    return Fraction(str(value)).denominator
