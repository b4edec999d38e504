"""What a reward function answered, as float64: any list of what converts exactly to a float."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.checks import is_missing, is_rounded
from gspo_rs.rewards.errors import RewardError

__all__ = ["as_list", "listed_answer", "place_of", "quoted", "reward_or_fault", "rewards_of"]


def listed_answer(values: Any, name: str) -> list[Any]:
    """Return the rewards that a function answered as a list.

    Parameters
    ----------
    values : Any
        A sequence, array, tensor, column of Polars, pandas or Arrow, or an iterator, which is used
        up.
    name : str
        What errors call the function.

    Raises
    ------
    RewardError
        If it is something else, such as a number or a dict.

    Examples
    --------
    >>> listed_answer((x / 2 for x in range(3)), "reward function half")
    [0.0, 0.5, 1.0]
    """
    found = as_list(values)
    if isinstance(found, list):
        return found
    raise RewardError(f"{name} answered a {type(values).__name__}, not a list of rewards")


def as_list(values: Any) -> Any:
    """Return a list of its own with the entries of anything in order; other things as they are.

    Examples
    --------
    >>> as_list(np.arange(2)), as_list((x for x in "ab")), as_list("ab")
    ([0, 1], ['a', 'b'], 'ab')
    """
    if type(values) is list:
        return list(values)
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, method):
            return getattr(values, method)()
    unordered = isinstance(values, str | bytes | Mapping | AbstractSet)
    return list(values) if isinstance(values, Iterable) and not unordered else values


def rewards_of(
    answers: Sequence[Any], prompts: Sequence[Any], completions: Sequence[Any], name: str
) -> NDArray[np.float64]:
    """Return answers as float64, one for each completion, NaN where there is none.

    Parameters
    ----------
    answers : sequence
        Numbers, bools, decimals, arrays and tensors without a dimension; None, ``pandas.NA`` and
        NaN for a completion that could not be scored.
    prompts, completions : sequence, length n
        For errors.
    name : str
        What errors call the function.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    RewardError
        If there are not n, or one is infinite, no number, or would be rounded. Names the function,
        the row, the prompt and the completion.

    Examples
    --------
    >>> rewards_of([np.array(0.5), Decimal("0.25"), None], "abc", "def", "reward function mixed")
    array([0.5 , 0.25,  nan])
    """
    if len(answers) != len(completions):
        raise RewardError(
            f"{name} answered {len(answers)} rewards for {len(completions)} completions, "
            f"the first of prompt {quoted(prompts[0]) if len(prompts) else '-'}"
        )
    found = np.empty(len(answers))
    for row, answer in enumerate(answers):
        found[row], fault = reward_or_fault(answer)
        if fault:
            place = place_of(row, prompts[row], completions[row])
            raise RewardError(f"{name} answered {fault[0]} for {place}; {fault[1]}")
    return found


def reward_or_fault(answer: Any) -> tuple[float, tuple[str, str] | None]:
    """Return one answer as a reward, or what it is instead and the rule that it breaks.

    Examples
    --------
    >>> reward_or_fault(Decimal("0.25"))
    (0.25, None)
    >>> reward_or_fault("good")[1]
    ("'good' (str)", 'a reward is a number, or None to leave the completion out')
    """
    if type(answer) is float and math.isfinite(answer):
        return answer, None
    value = answer.item() if getattr(answer, "ndim", None) == 0 else answer
    found = math.nan if is_missing(value) else _float(value)
    return found, None if math.isfinite(found) else _fault(value)


def _float(value: Any) -> float:
    """Return a number as a float; infinity where it is none, or would be rounded."""
    number = isinstance(value, numbers.Real | Decimal) and not is_rounded(value)
    return float(value) if number else math.inf


def _fault(value: Any) -> tuple[str, str] | None:
    """Return what an answer is that is no finite number, and the rule; None for a missing one."""
    if is_missing(value):
        return None
    if not isinstance(value, numbers.Real | Decimal):
        return (
            f"{value!r} ({type(value).__name__})",
            "a reward is a number, or None to leave the completion out",
        )
    if is_rounded(value):
        return f"{value!r}", "float64 would round it, and a reward is to be exact"
    if math.isnan(value):
        return None
    return f"{float(value)}", "a reward is finite, or None"


def place_of(row: int, prompt: Any, completion: Any) -> str:
    """Name a rollout for an error."""
    return f"row {row}, prompt {quoted(prompt)}, completion {quoted(completion)}"


def quoted(said: Any, limit: int = 80) -> str:
    """Return what is said, text or messages, in quotes and cut to a length."""
    if not isinstance(said, str):  # messages
        said = " ".join(str(message.get("content")) for message in said)
    return repr(said if len(said) <= limit else said[: limit - 1] + "…")
