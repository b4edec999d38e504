"""The checks of your own loss or advantage function, of a function or of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from gspo_rs.conformance import Report, check
from gspo_rs.rewards.functions import load

__all__ = ["doctor"]


def doctor(
    function: str | Callable[..., Any], kind: Literal["loss", "advantage"] | None = None
) -> Report:
    """Check your own loss or advantage function and list what is wrong.

    Parameters
    ----------
    function : callable or str
        The function, or where it is: ``module:function`` or ``file.py:function``.
    kind : {"loss", "advantage"}, optional
        Needed only if the number of arguments leaves it open.

    Returns
    -------
    Report
        Prints as text.

    Raises
    ------
    TypeError, ValueError, OSError
        As `gspo_rs.conformance.check` and `gspo_rs.rewards.load`.

    Examples
    --------
    >>> import gspo_rs as gs
    >>> doctor(lambda rewards, groups: gs.advantage(rewards, groups, "rloo")).findings
    ()
    """
    if isinstance(function, str):
        return check(load(function, what=kind or "function"), kind)
    return check(function, kind)
