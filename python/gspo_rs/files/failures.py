"""How many rows of a run that takes long may fail before it stops."""

from __future__ import annotations

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
    """
    text = str(given).strip()
    try:
        share = text.endswith("%")
        number = float(text[:-1]) if share else int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= (100 if text.endswith("%") else float("inf")):
        raise ValueError(
            f"max_failed = {given!r} is no number of rows, such as 10, nor a share, such as 1%"
        )
    return int(number * n_rows / 100) if text.endswith("%") else int(number)
