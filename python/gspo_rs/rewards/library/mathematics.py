"""Mathematical answers compared by what they mean."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.library.killable import is_worker, refuse_outside_worker
from gspo_rs.rewards.library.texts import said

__all__ = ["math_match"]


def math_match(completions: Sequence[Any], answer: Sequence[Any], **_: Any) -> list[float | None]:
    r"""1 if math-verify finds the answer of a completion equal to the right one, else 0.

    The right answer is an expression in plain text or LaTeX, with or without ``$`` or ``\boxed``;
    None where nothing can be parsed in it. In completions expressions in LaTeX are looked for, the
    last box first, then plain ones.

    Traps
    -----
    It hangs on ``9^{9^{9^9}}`` and sums to a billion, and its own time limit is an alarm that
    is not heard there: it is called only in workers, where such a row becomes ``timeout``.
    What it raises becomes ``error``; by itself it answers that as wrong. Floats are compared to six
    digits. Order counts in ``(1, 2)`` and not in ``\{1, 2\}``. An answer of several values is right
    only as a whole.

    References
    ----------
    Math-Verify, https://github.com/huggingface/Math-Verify. Needs ``gspo_rs[math]``.
    """
    refuse_outside_worker("math_match")
    parse, verify = _verifier()
    found: list[float | None] = []
    for completion, right in zip(completions, answer, strict=True):
        gold = None if right is None else parse(_as_math(str(right)))
        found.append(float(verify(gold, parse(said(completion)))) if gold else None)
    return found


def _as_math(right: str) -> str:
    r"""Put an expression between signs of LaTeX, without which ``\frac`` is not read."""
    return right if "$" in right or "\\boxed" in right else f"${right}$"


@lru_cache
def _verifier() -> tuple[Any, Any]:
    """Return what parses and what compares, without alarms, raising what goes wrong."""
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise RewardError(
            f"math_match needs math-verify: pip install 'gspo_rs[math]' ({error})"
        ) from error
    for name in ("parser", "grader"):  # they warn that there is no alarm
        logging.getLogger(f"math_verify.{name}").setLevel(logging.ERROR)
    return (
        lambda text: parse(text, parsing_timeout=None, raise_on_error=True),
        lambda gold, one: verify(gold, one, timeout_seconds=None, raise_on_error=True),
    )


if is_worker():
    _verifier()  # before the clock of a row runs
