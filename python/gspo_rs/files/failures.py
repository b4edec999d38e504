"""How many rows of a run that takes long may fail before it stops."""

from __future__ import annotations

import math
from fractions import Fraction

__all__ = ["FailureLimitError", "allowed_failures"]


class FailureLimitError(RuntimeError):
    """More rows failed than may; what is written can be taken up again."""

    exit_code = 3


def allowed_failures(given: str | int, n_rows: int) -> int:
    """Return how many of some rows may fail.

    Raises
    ------
    ValueError
        If it is neither a number of rows nor a share.

    Examples
    --------
    >>> allowed_failures("1%", 250), allowed_failures("7", 250), allowed_failures(0, 250)
    (2, 7, 0)
    >>> allowed_failures("0.57%", 100_000)  # as written, not as the float below it
    570
    """
    text = str(given).strip()
    share = text.endswith("%")
    try:
        number = Fraction(text[:-1]) if share else Fraction(int(text))
    except (ValueError, ZeroDivisionError):
        number = Fraction(-1)
    if not 0 <= number <= (100 if share else number):
        raise ValueError(
            f"max_failed = {given!r} is no number of rows, such as 10, nor a share, such as 1%"
        )
    return math.floor(number * n_rows / 100 if share else number)
