"""Tasks of reasoning-gym, scored by their own scorers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.library.killable import is_worker, refuse_outside_worker
from gspo_rs.rewards.library.texts import final_answer, said

__all__ = ["reasoning_gym"]

# Their scorers compare with tuples of tuples, which JSON and Parquet make lists.
_OF_BOARDS = ("arc_agi", "rearc")


def reasoning_gym(
    completions: Sequence[Any], task: Sequence[Any], entry: Sequence[Any], **_: Any
) -> list[float | None]:
    """Score answers by the scorer that reasoning-gym has for their task, from 0 to 1.

    The task is its name, such as ``leg_counting``; the entry is what the library has generated,
    with ``answer`` and ``metadata``, as a struct or as JSON. The answer is what `final_answer`
    finds, or the whole text without a mark. None without a task or an entry.

    Traps
    -----
    Scorers of some tasks run what they are given: that of ``intermediate_integration`` may not
    return, and swallows an alarm, so that only a kill ends it. Many give partial credit, as 0.01
    for any answer at all, so that groups seem to have a signal. The scorers change with the
    version of the library.

    References
    ----------
    Reasoning Gym (Stojanovski et al. 2025, arXiv:2505.24760). Needs ``gspo_rs[reasoning]``.
    """
    refuse_outside_worker("reasoning_gym")
    scorer_of = _library()
    found: list[float | None] = []
    for completion, name, given in zip(completions, task, entry, strict=True):
        if name is None or given is None:
            found.append(None)
            continue
        text = said(completion)
        marked = final_answer(text)
        whole = _restored(name, json.loads(given) if isinstance(given, str) else given)
        score = scorer_of(name)
        found.append(float(score(answer=text if marked is None else marked, entry=whole)))
    return found


def _restored(task: str, entry: Any) -> Any:
    """Return an entry as the library has generated it, where its scorer notices."""
    if task not in _OF_BOARDS:
        return entry
    board = tuple(map(tuple, entry["metadata"]["output"]))
    return {**entry, "metadata": {**entry["metadata"], "output": board}}


@lru_cache
def _library() -> Any:
    """Return what finds the scorer of a task."""
    try:
        from reasoning_gym import get_score_answer_fn
    except ImportError as error:
        raise RewardError(
            f"reasoning_gym needs reasoning-gym: pip install 'gspo_rs[reasoning]' ({error})"
        ) from error
    return lru_cache(get_score_answer_fn)


if is_worker():
    _library()  # before the clock of a row runs
