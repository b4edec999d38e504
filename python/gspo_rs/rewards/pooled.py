"""Reward functions that a pool of workers calls, as functions that are called here."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gspo_rs.rewards.answers import place_of
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.functions import titled
from gspo_rs.rewards.sandbox import Sandbox
from gspo_rs.rewards.workers import STATUSES, Grade, Status, Workers

__all__ = [
    "STATUS_METRICS",
    "OnFailure",
    "PooledFunction",
    "pooled_functions",
    "refuse_unsendable",
    "take_counts",
]

OnFailure = Literal["error", "none"]
STATUS_METRICS = "reward/status/"


class PooledFunction:
    """A reward function with TRL's signature that a pool calls, one row a call.

    Parameters
    ----------
    workers : Workers
        The pool.
    name : str
        Of the function.
    on_failure : {"error", "none"}
        Whether a row that fails is an error, or has no reward.
    """

    def __init__(self, workers: Workers, name: str, on_failure: OnFailure) -> None:
        self.workers, self._name, self._on_failure = workers, name, on_failure
        self._counts = dict.fromkeys(STATUSES, 0)
        self._ahead: list[Grade] = []
        self._seeds: list[int] = []

    def __call__(
        self,
        *,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_metric: Callable[[str, float], None],
        log_extra: Callable[[str, Sequence[Any]], None],
        completion_ids: Sequence[Any] | None = None,
        trainer_state: Any = None,
        **columns: Sequence[Any],
    ) -> list[float | None]:
        """Return the reward of each row; None where there is none.

        Raises
        ------
        RewardError
            If a column holds what cannot be sent.
        GradingError
            If a row fails and that is an error; names it.
        """
        given = {"prompts": prompts, "completions": completions, **columns}
        self.grade_ahead(given, completion_ids, trainer_state, first=len(self._ahead))
        grades, self._ahead, self._seeds = self._ahead, [], []
        for row, grade in enumerate(grades):
            self._counts[grade.status] += 1
            if grade.error and self._on_failure == "error":
                place = place_of(row, prompts[row], completions[row])
                raise GradingError(f"{titled(self._name)}: {_said(grade)}; {place}")
        _log(grades, log_metric, log_extra)
        return [None if math.isnan(grade.reward) else grade.reward for grade in grades]

    def draw(self, n: int) -> None:
        """Draw the seeds of the next n rows, of the generator whose state is in a checkpoint."""
        self._ahead, self._seeds = [], [random.getrandbits(32) for _ in range(n)]

    def grade_ahead(
        self,
        given: Mapping[str, Sequence[Any]],
        completion_ids: Sequence[Any] | None = None,
        trainer_state: Any = None,
        *,
        first: int = 0,
    ) -> None:
        """Grade rows that the next call will have first, after those of earlier ones.

        Parameters
        ----------
        given : mapping of str to sequence
            Prompts, completions and other columns.
        completion_ids, trainer_state
            As for a call.
        first : int
            Of the rows, the first that is not graded yet.
        """
        known = self.workers.parameters[self._name]
        if completion_ids is not None and (known is None or "completion_ids" in known):
            given = {**given, "completion_ids": completion_ids}
        for column, values in given.items():
            refuse_unsendable(self._name, column, values, "set reward_workers = 0")
        n = len(given["prompts"])
        rows = [{key: [values[i]] for key, values in given.items()} for i in range(first, n)]
        seeds = self._seeds[len(self._ahead) :][: len(rows)]
        # So no reward depends on the worker.
        seeds += [random.getrandbits(32) for _ in rows[len(seeds) :]]
        state = None if trainer_state is None else _plain_state(trainer_state)
        if rows:
            self._ahead += self.workers.grade(self._name, rows, seeds=seeds, state=state)

    def take_counts(self) -> dict[Status, int]:
        """Return how many rows had each status since this was last asked."""
        counts, self._counts = self._counts, dict.fromkeys(STATUSES, 0)
        return counts


def refuse_unsendable(name: str, column: str, values: Sequence[Any], remedy: str) -> None:
    """Raise a RewardError if a column for the function `name` holds what JSON would change."""
    for row, value in enumerate(values):
        if (odd := _unsendable(value)) is not None:
            raise RewardError(
                f"{titled(name)}: column {column!r} holds a {type(odd).__name__}, row {row}, which"
                " cannot be sent to a worker; give text, numbers, bools, lists or dicts with keys"
                f" of text, or {remedy}"
            )


def pooled_functions(
    functions: Mapping[str, str],
    size: int,
    *,
    timeout: float,
    on_failure: OnFailure,
    sandbox: Sandbox = "process",
) -> dict[str, PooledFunction]:
    """Return reward functions that one pool of workers calls.

    Parameters
    ----------
    functions : mapping of str to str
        By name, as ``file.py:function`` or ``module:function``.
    size, timeout, sandbox
        As for `Workers`.
    on_failure
        As for `PooledFunction`.

    Raises
    ------
    RewardError
        If one cannot be loaded.
    """
    workers = Workers(functions, size, timeout=timeout, sandbox=sandbox)
    return {name: PooledFunction(workers, name, on_failure) for name in functions}


def take_counts(functions: Iterable[Any]) -> dict[str, list[float]]:
    """Return as metrics how many rows of pooled functions had each status; empty without any."""
    found: dict[str, list[float]] = {}
    for function in functions:
        if isinstance(function, PooledFunction):
            for status, count in function.take_counts().items():
                found.setdefault(STATUS_METRICS + status, []).append(float(count))
    return found


def _said(grade: Grade) -> str:
    """Return what happened, after its kind where the sentence does not say it."""
    return grade.error if grade.status in ("none", "error") else f"{grade.status}, {grade.error}"


def _log(
    grades: Sequence[Grade],
    log_metric: Callable[[str, float], None],
    log_extra: Callable[[str, Sequence[Any]], None],
) -> None:
    """Log here what the rows have logged there, in their order."""
    for grade in grades:
        for name, values in grade.metrics.items():
            for value in values:
                log_metric(name, value)
    for column in dict.fromkeys(name for grade in grades for name in grade.extra):
        log_extra(column, [grade.extra.get(column) for grade in grades])


def _plain_state(state: Any) -> dict[str, Any]:
    """Return the attributes of the state of a run that can be sent."""
    plain = {key: str(v) if isinstance(v, Path) else v for key, v in vars(state).items()}
    return {key: value for key, value in plain.items() if _unsendable(value) is None}


def _unsendable(value: Any) -> Any:
    """Return the first part of a value that JSON would change or refuse; None if there is none.

    Examples
    --------
    >>> _unsendable([1, "a", None, {"role": "user"}]), _unsendable([1, {2: 3}]), _unsendable([b"x"])
    (None, 2, b'x')
    """
    if value is None or type(value) in (str, int, float, bool):
        return None
    if type(value) is list:
        return next((odd for one in value if (odd := _unsendable(one)) is not None), None)
    if type(value) is dict:
        keys = next((key for key in value if type(key) is not str), None)
        return _unsendable(list(value.values())) if keys is None else keys
    return value
