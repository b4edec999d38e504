"""Rewards from comparisons: a judge sees two completions of a group at a time, in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.advantages import advantage_from_wins
from gspo_rs.groups.bradley_terry import bradley_terry
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.judge import failed
from gspo_rs.rewards.grading.limits import digest_of
from gspo_rs.rewards.grading.requests import Answered, Judge, Requests, values_of
from gspo_rs.rewards.judges.verdicts import Rubric, better_schema, read_better
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.workers import Grade

__all__ = ["Method", "PairwiseEngine"]

Pair = tuple[int, int]
Method = Literal["borda", "bradley_terry"]


class PairwiseEngine:
    """Grades by how many of its group a completion beats.

    Parameters
    ----------
    judge : Judge
        Its rubric shows completions as ``{{ a }}`` and ``{{ b }}``.
    method : {"borda", "bradley_terry"}
        What makes rewards of wins.
    name : str
        Of the reward.

    Raises
    ------
    RewardError
        If there is no such method.

    Notes
    -----
    Each pair is shown in both orders. A completion beats the other where both verdicts say so; a
    tie is where they disagree, or one is a tie. The reward is Borda's, `advantage_from_wins`: wins
    less defeats over the number of others, in [-1, 1]; or the strength of `bradley_terry` in nats,
    which orders a group as Borda's does and has other distances. It is comparable within its group
    only, and 0 for a lone completion. A group of n takes n (n - 1) requests. Where one fails, both
    rows fail.

    The metrics ``first`` and ``second`` count the verdicts for what was shown first and second:
    without a bias of position they are equal. ``disagree`` is 1 where the orders disagree.
    """

    kind, whole_groups = "pairwise", True

    def __init__(self, judge: Judge, method: Method = "borda", *, name: str = "pairwise") -> None:
        if method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise RewardError(f"method {method!r} of comparisons is not known; there are {known}")
        self.name, self._method = name, method
        self._rubric = Rubric(judge.rubric, ("a", "b"))
        given = ["better", self._rubric.text]
        self._requests = Requests(judge, better_schema(), read_better, given)
        self.scorer = digest_of([self._requests.scorer, method])

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        if rows.groups is None:
            raise RewardError("completions are compared within groups; name them with --by")
        members: dict[int, list[int]] = {}
        for row, group in enumerate(rows.groups):
            members.setdefault(group, []).append(row)
        pairs = [pair for several in members.values() for pair in combinations(several, 2)]
        shown = [order for pair in pairs for order in (pair, pair[::-1])]
        answers = self._requests.answered([self._text(rows, *order) for order in shown])
        both = dict(zip(pairs, zip(answers[::2], answers[1::2], strict=True), strict=True))
        grades: dict[int, Grade] = {}
        for rows_of_one in members.values():
            grades |= _graded(rows_of_one, both, self._method)
        return [grades[row] for row in range(len(rows.completions))]

    def resume(self) -> None:
        """Count what the run before may have asked for in its last minute."""
        self._requests.resume()

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    def _text(self, rows: Slice, first: int, second: int) -> str:
        shown = {"a": said(rows.completions[first]), "b": said(rows.completions[second])}
        return self._rubric.filled({**values_of(rows, first), **shown})


def _graded(
    group: Sequence[int], both: dict[Pair, tuple[Answered, Answered]], method: Method
) -> dict[int, Grade]:
    """Return the grades of the rows of one group."""
    wins = np.full((len(group), len(group)), np.nan)
    for (i, one), (j, other) in combinations(enumerate(group), 2):
        won = _won(*both[one, other])
        wins[i, j], wins[j, i] = won, 1 - won
    rewards = _rewards(wins, method)
    found = {}
    for place, row in enumerate(group):
        pairs = [pair for pair in combinations(group, 2) if row in pair]
        answers = [one for pair in pairs for one in both[pair]]
        more: dict[str, Any] = {
            # Those of a pair count for its first row, once.
            "metrics": _metrics([both[pair] for pair in pairs if pair[0] == row]),
            "seconds": sum(one.seconds for one in answers),
            "attempts": max((one.attempts for one in answers), default=0),
        }
        found[row] = failed(answers, **more) or Grade("ok", float(rewards[place]), **more)
    return found


def _rewards(wins: NDArray[np.float64], method: Method) -> NDArray[np.float64]:
    rewards_of = advantage_from_wins if method == "borda" else bradley_terry
    found: NDArray[np.float64] = rewards_of([wins], group_size=len(wins))
    return found


def _won(first: Answered, second: Answered) -> float:
    """Return 1 if the first of a pair is better in both orders, 0 if the other, else a half.

    NaN if a verdict is missing.
    """
    if first.failure or second.failure:
        return float("nan")
    return {("A", "B"): 1.0, ("B", "A"): 0.0}.get((first.value, second.value), 0.5)


def _metrics(pairs: Sequence[tuple[Answered, Answered]]) -> dict[str, list[float]]:
    answers = [one for pair in pairs for one in pair]
    verdicts = [one.value for one in answers if one.failure is None]
    whole = [_won(*pair) for pair in pairs if not any(one.failure for one in pair)]
    tied = [pair for pair in pairs if [one.value for one in pair] == ["tie", "tie"]]
    return {
        "tokens": [float(sum(one.tokens for one in answers))],
        "first": [float(verdicts.count("A"))],
        "second": [float(verdicts.count("B"))],
        "compared": [float(len(whole))],
        "disagree": [float(whole.count(0.5) - len(tied))],
    }
