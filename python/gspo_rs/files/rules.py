"""The syntax of rules that select rows: ``informative,pass-rate:0.1..0.9``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from gspo_rs.groups.decimals import lowest, written

__all__ = ["WORDS", "Rule", "parse"]

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
    "reward": "1..",
}
RANGES = ("reward", "size", "pass-rate", "mean")
RIGHT = 0.5  # as in `gspo_rs.pass_at_k`


@dataclass(frozen=True)
class Rule:
    """One rule; `text` is how it was written, and the reason of the rows that it drops.

    A rule of one value has it in `low`; a range has None where it is open. A completion is right
    from the reward `threshold` on.
    """

    text: str
    word: str
    low: Fraction | None = None
    high: Fraction | None = None
    threshold: float = RIGHT


def parse(text: str, threshold: float | None = None) -> tuple[Rule, ...]:
    """Read rules, joined by commas.

    Parameters
    ----------
    text : str
        ``all``, alone; or any of

        ``scored``
            rows that have a reward;
        ``reward:1..``
            rows whose own reward lies there;
        ``informative``
            groups that prefer one member to another;
        ``size:4..16``
            groups of so many members, unscorable ones included;
        ``pass-rate:0.1..0.9``
            groups with such a share of right completions among the scorable ones;
        ``mean:-1..1``
            groups with such a mean reward;
        ``min-spread:0.5``
            groups whose highest reward is at least this far above the lowest;
        ``top:0.2``
            the best fraction of each group, ties as a whole;
        ``best:1``
            so many rows of each group, the best ones.

        Both ends of a range belong to it, and one may be left out: ``size:4..``. Numbers are
        compared as they are written: 0.1 is a tenth.
    threshold : float, optional
        For ``pass-rate``: a completion is right when its reward is at least this; 0.5 by default.

    Returns
    -------
    tuple of Rule
        Empty for ``all``.

    Raises
    ------
    ValueError
        For an unknown word, which lists the known ones, for a value that makes no sense, and for
        a threshold that no rule reads.

    Examples
    --------
    >>> parse("informative, size:4..")[1]
    Rule(text='size:4..', word='size', low=Fraction(4, 1), high=None, threshold=0.5)
    """
    right = RIGHT if threshold is None else _threshold(threshold)
    rules = tuple(_rule(part.strip(), right) for part in text.split(","))
    if threshold is not None and all(rule.word != "pass-rate" for rule in rules):
        raise ValueError(
            f"threshold={threshold}: only pass-rate reads it, which keep={text!r} has not; for a "
            f"row's own reward write reward:{threshold}.."
        )
    if any(rule.word == "all" for rule in rules):
        if len(rules) > 1:
            raise ValueError(f"keep={text!r}: 'all' stands alone; leave it out")
        return ()
    return rules


def _threshold(given: float) -> float:
    try:
        return lowest(written(given))
    except ValueError as error:
        raise ValueError(f"threshold: {error}") from None


def _rule(text: str, threshold: float) -> Rule:
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
    ends = (_number(text, low), _number(text, high) if dots else None)
    rule = Rule(text, word, *ends, threshold=threshold)
    _check(rule)
    return rule


def _number(text: str, value: str) -> Fraction | None:
    if not value:
        return None
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", value, re.I | re.A):
        raise ValueError(f"keep={text!r}: {value!r} is not a finite number")
    try:
        return written(value.strip())
    except ValueError as error:
        raise ValueError(f"keep={text!r}: {error}") from None


def _check(rule: Rule) -> None:
    given = [value for value in (rule.low, rule.high) if value is not None]
    if not given:
        raise ValueError(f"keep={rule.text!r}: a number is missing")
    if len(given) == 2 and given[0] > given[1]:
        raise ValueError(f"keep={rule.text!r}: the range is empty; the lower end comes first")
    problem = ""
    if rule.word in ("size", "best") and not all(v.denominator == 1 and v >= 1 for v in given):
        problem = "a whole number from 1"
    elif rule.word == "pass-rate" and not all(0 <= value <= 1 for value in given):
        problem = "between 0 and 1"
    elif rule.word == "min-spread" and given[0] < 0:
        problem = "at least 0"
    elif rule.word == "top" and not (0 < given[0] <= 1 and given[0].denominator <= 10**9):
        problem = "above 0, at most 1, and written with at most nine decimals"
    if problem:
        raise ValueError(f"keep={rule.text!r}: the value must be {problem}")
