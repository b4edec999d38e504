"""Answers compared with the right one: as text, and as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gspo_rs.rewards.library.texts import final_answer, said

__all__ = ["exact_match", "number_in", "numeric_match"]

# 1,234.5 or 1234.5 or .5, with a power of ten whose digits are few.
_NUMBER = re.compile(
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
    r"|\.[0-9]+"
)
_SIGN = re.compile(r"[-+\u2212]\s?\$?$")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_MOST_DIGITS = 1000


def exact_match(completions: Sequence[Any], answer: Sequence[Any], **_: Any) -> list[float | None]:
    """1 if the answer that a completion ends with is the right one, letter by letter, else 0.

    Both are what `final_answer` finds, or the whole text without a mark; spaces and line ends count
    as one space, and none at the ends. None without a right answer.

    Traps
    -----
    The case counts, and so do ``1,000`` and ``1000``, ``1/2`` and ``0.5``: see `numeric_match`. The
    last mark decides, so that a completion which tries several answers has one try. A policy that
    leaves the mark out has its whole text compared.

    References
    ----------
    The exact match of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250), without its lowering of
    case, articles and punctuation.

    Examples
    --------
    >>> exact_match(completions=["So <answer>Paris </answer>", "Rome"], answer=["Paris", "Paris"])
    [1.0, 0.0]
    """
    return [
        None if right is None else float(_answer(said(one)) == _answer(str(right)))
        for one, right in zip(completions, answer, strict=True)
    ]


def numeric_match(
    completions: Sequence[Any], answer: Sequence[Any], **_: Any
) -> list[float | None]:
    """1 if the last number of a completion's answer is the right one, exactly, else 0.

    The answer is what `final_answer` finds, or the whole text without a mark. Thousands may have
    commas; ``1/2``, ``1.5e3`` and a sign are read; currencies, units and ``%`` are not. Where the
    right answer is text, its number is found likewise; None if it has none.

    Traps
    -----
    ``0.33`` is not ``1/3``, and ``50%`` is 50: numbers are compared exactly, as fractions. Without
    a mark the last number decides, so ``18 (in 2 days)`` is 2. ``3,14`` is no decimal: its last
    number is 14. Of a range, ``3-5``, the last number is 5.

    References
    ----------
    The rule of GSM8K (Cobbe et al. 2021, arXiv:2110.14168), whose solutions end in ``####``.

    Examples
    --------
    >>> numeric_match(completions=["It is $1,000.", "A: 0.5"], answer=["#### 1000", "1/2"])
    [1.0, 1.0]
    """
    return [
        None if (wanted := number_in(right)) is None else float(number_in(said(one)) == wanted)
        for one, right in zip(completions, answer, strict=True)
    ]


def number_in(value: Any) -> Fraction | None:
    r"""Return a number, or the last one of the answer in a text; None if there is none.

    Examples
    --------
    >>> number_in(0.5), number_in("first 3, then \\boxed{-7/2}"), number_in("none")
    (Fraction(1, 2), Fraction(-7, 2), None)
    """
    if isinstance(value, int | float | Decimal):
        return Fraction(value) if math.isfinite(value) else None
    if value is None:
        return None
    text = str(value)
    marked = final_answer(text)
    return _last_number(_FRACTION.sub(r"\1/\2", text if marked is None else marked))


def _answer(text: str) -> str:
    marked = final_answer(text)
    return " ".join((text if marked is None else marked).split())


def _last_number(text: str) -> Fraction | None:
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    *_, over, last = [None, *found]
    value, first = _value(last), last
    if over is not None and text[over.end() : last.start()].strip() == "/":
        top = _value(over)
        value, first = top / value if top is not None and value else None, over
    return -value if value is not None and _is_negative(text[: first.start()]) else value


def _value(match: re.Match[str]) -> Fraction | None:
    digits = match[0].replace(",", "")
    return Fraction(digits) if len(digits) <= _MOST_DIGITS else None


def _is_negative(before: str) -> bool:
    """Tell whether a text ends with a minus, and not with a hyphen or one between two numbers."""
    sign = _SIGN.search(before)
    if sign is None or sign[0][0] == "+":
        return False
    earlier = before[: sign.start()]
    operator = earlier.rstrip()[-1:].isdigit() or earlier.rstrip()[-1:] in (")", "}")
    return not operator and not earlier[-1:].isalnum()
