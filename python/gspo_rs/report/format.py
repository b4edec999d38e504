"""Formatting of numbers and texts on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["count", "cut", "number", "share", "spelled", "visible"]

LABEL = 80
# What a page can't show, or what would reorder the text around it.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\x80-\x9f\ufffe\uffff]")


def number(value: float) -> str:
    """Write a number with three digits, or all of a whole one.

    Examples
    --------
    >>> number(136900), number(0.54218), number(1234.5), number(float("nan"))
    ('136,900', '0.542', '1,234', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    if abs(value) < 1e15 and float(value).is_integer():
        return f"{int(value):,}"
    if 1000 <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spelled(values: Sequence[float], within: float) -> list[str]:
    """Write rising numbers with as few digits as keep them apart.

    Parameters
    ----------
    values : sequence of float
        Rising.
    within : float
        How far what is written may be from its number, as a share of the smallest distance.

    Examples
    --------
    >>> spelled([0.0, 1 / 3, 2 / 3, 1.0], 0.01), spelled([1000.0, 1002.5], 1e-6)
    (['0', '0.333', '0.667', '1'], ['1,000', '1,002.5'])
    """
    gap = min((b - a for a, b in pairwise(values)), default=math.inf)
    allowed = within * gap if math.isfinite(gap) else 0.01 * max(map(abs, values), default=0.0)
    return [_spelled(value, allowed) for value in values]


def count(size: int, one: str, several: str | None = None) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> count(1, "group"), count(1200, "group"), count(2, "copy", "copies")
    ('1 group', '1,200 groups', '2 copies')
    """
    return f"{size:,} {one if size == 1 else several or one + 's'}"


def share(part: float, whole: float) -> str:
    """Write ``part / whole`` in per cent; only none is 0 % and only all is 100 %.

    Examples
    --------
    >>> share(1, 3), share(1, 1_000_000), share(999_999, 1_000_000), share(0, 0)
    ('33.3 %', '< 0.1 %', '> 99.9 %', 'n/a')
    """
    if not whole:
        return "n/a"
    rounded = round(100 * part / whole, 1)
    if part and rounded == 0:
        return "< 0.1 %"
    if part != whole and rounded == 100:
        return "> 99.9 %"
    return f"{rounded:g} %"


def visible(text: str) -> str:
    r"""Replace characters that a page can't show, or that reorder it, by signs for them.

    Examples
    --------
    >>> visible("a\x00b")
    'a␀b'
    """
    # Unicode has a sign for each control character, from U+2400; U+2421 is that of DEL, 0x7f.
    shown = _INVISIBLE.sub(lambda match: chr(0x2400 + ord(match[0]) % 0x5E), text)
    return _REORDERING.sub("\ufffd", shown)


def cut(label: str, limit: int = LABEL) -> str:
    """Shorten a label in its middle, to at most `limit` characters of one line.

    Examples
    --------
    >>> cut("a/long/path/to/somewhere", 11)
    'a/lon…where'
    """
    line = " ".join(visible(label).split())
    if len(line) <= limit:
        return line
    half = (limit - 1) // 2
    return f"{line[: limit - 1 - half]}…{line[len(line) - half :]}"


def _spelled(value: float, allowed: float) -> str:
    if abs(value) < 1e15 and float(value).is_integer():
        return f"{int(value):,}"
    written = (f"{value:,.{digits}g}" for digits in range(3, 18))
    near = (text for text in written if abs(float(text.replace(",", "")) - value) <= allowed)
    return next(near, repr(value))
