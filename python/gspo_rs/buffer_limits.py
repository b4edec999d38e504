"""What a `GroupBuffer` is given: its bounds, and the numbers of groups and rollouts."""

from __future__ import annotations

import operator
from collections.abc import Mapping

__all__ = ["check_limits", "check_whole"]

LARGEST = 2**63 - 1
"""Of the whole numbers that the core and JSON readers can hold."""


def check_limits(limits: Mapping[str, float | None]) -> None:
    """Refuse an option of `GroupBuffer` that is out of its range.

    Raises
    ------
    ValueError
        Names the first and its range.
    """
    for name, value in limits.items():
        least = 0 if name in ("max_staleness", "remember", "deadline") else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name == "deadline":
            whole = isinstance(value, int | float) and value == value
        if value is not None and not (whole and value >= least):
            kind = "seconds" if name == "deadline" else "a whole number"
            raise ValueError(f"{name} is {value!r}; it is {kind} of at least {least}")
    if limits["max_groups"] is None or limits["remember"] is None:
        raise ValueError("max_groups and remember bound the buffer; they cannot be None")


def check_whole(**numbers: int) -> None:
    """Refuse a number that the core cannot hold.

    Raises
    ------
    ValueError, TypeError
        Names the first.

    Examples
    --------
    >>> check_whole(policy_version=0, n_bytes=12)
    """
    for name, value in numbers.items():
        problem = f"{name} is {value!r}; it is a whole number of 0 to 2**63 - 1"
        try:
            number = operator.index(value)
        except TypeError as error:
            raise TypeError(problem) from error
        if not 0 <= number <= LARGEST:
            raise ValueError(problem)
