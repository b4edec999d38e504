"""What is written of grades: the columns of a part, and what is counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from gspo_rs.rewards.grading.rows import Piece
from gspo_rs.rewards.workers import GRADE_STATUSES, Grade

__all__ = ["Counts", "graded_frame", "is_failure", "refuse_key_names", "reward_column"]

_SKIPPED = Grade("skipped", error="", attempts=0)
_ERROR_CHARACTERS = 200


def reward_column(name: str) -> str:
    """Return the column of one of the rewards.

    Examples
    --------
    >>> reward_column("math")
    'reward_math'
    """
    return f"reward_{name}"


def refuse_key_names(keys: Iterable[str], rewards: Iterable[str], *, places: bool) -> None:
    """Raise a ValueError if a key has the name of a column that is written beside it.

    With `places` file and row number are.
    """
    own = {"reward", "status", "error", "seconds", "attempts", "scorer"}
    taken = own | {reward_column(name) for name in rewards} | ({"file", "row"} if places else set())
    if clash := next((key for key in keys if key in taken), None):
        raise ValueError(f"the key {clash!r} has the name of a column that is written; rename it")


def is_failure(grade: Grade) -> bool:
    """Return whether a row failed: a status but ``ok``, ``skipped`` and None of the function."""
    return bool(grade.error)


@dataclass
class Counts:
    """What is counted of grades: rows by status, for each reward too, and sums of metrics."""

    status: Counter[str] = field(default_factory=Counter)
    rewards: dict[str, Counter[str]] = field(default_factory=dict)
    metrics: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failed: int = 0

    def add(self, other: Counts) -> None:
        """Add what was counted of other rows."""
        self.status += other.status
        self.failed += other.failed
        for name, statuses in other.rewards.items():
            self.rewards[name] = self.rewards.get(name, Counter()) + statuses
        for name, metrics in other.metrics.items():
            for metric, (total, n) in metrics.items():
                known = self.metrics.setdefault(name, {}).setdefault(metric, [0.0, 0.0])
                known[0], known[1] = known[0] + total, known[1] + n

    def facts(self) -> dict[str, Any]:
        """Return what is counted as JSON values."""
        ordered = {status: self.status[status] for status in GRADE_STATUSES if self.status[status]}
        rewards = {name: dict(sorted(statuses.items())) for name, statuses in self.rewards.items()}
        return {
            "status": ordered,
            "rewards": rewards,
            "metrics": self.metrics,
            "failed": self.failed,
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Counts:
        """Return what `facts` gave."""
        rewards = {name: Counter(statuses) for name, statuses in facts["rewards"].items()}
        return cls(Counter(facts["status"]), rewards, dict(facts["metrics"]), facts["failed"])


def graded_frame(
    piece: Piece, grades: Mapping[str, Sequence[Grade]], weights: Sequence[float], scorer: str
) -> tuple[pl.DataFrame, Counts]:
    """Return the columns of some rows, and what is counted of them.

    Parameters
    ----------
    piece : Piece
    grades : mapping of str to sequence of Grade
        By reward, of the rows with a completion.
    weights : sequence of float
        Of each reward in the sum, which leaves out what is None, and is none if one failed.
    scorer : str
        Digest of what decides about rewards.
    """
    n = piece.keys.height
    every = {name: [_SKIPPED] * n for name in grades}
    for name, given in grades.items():
        for row, grade in zip(piece.rows.tolist(), given, strict=True):
            every[name][row] = grade
    rows = list(zip(*every.values(), strict=True))
    total = [_summed(row, weights) for row in rows]
    statuses = [_status(row, reward) for row, reward in zip(rows, total, strict=True)]
    columns: dict[str, Any] = {"reward": pl.Series(total, dtype=pl.Float64)}
    for name, given in every.items():
        found = np.array([grade.reward for grade in given], dtype=np.float64)
        columns[reward_column(name)] = pl.Series(found).fill_nan(None)
    columns["status"] = pl.Series(statuses, dtype=pl.String)
    errors = [_error(list(every), row) for row in rows]
    columns["error"] = pl.Series(errors, dtype=pl.String)
    seconds = [sum(grade.seconds for grade in row) for row in rows]
    columns["seconds"] = pl.Series(seconds, dtype=pl.Float64)
    attempts = [max(grade.attempts for grade in row) for row in rows]
    columns["attempts"] = pl.Series(attempts, dtype=pl.Int32)
    frame = piece.keys.with_columns(**columns).with_columns(scorer=pl.lit(scorer[:16]))
    return frame, _counted(every, statuses, sum(error is not None for error in errors))


def _summed(row: Sequence[Grade], weights: Sequence[float]) -> float | None:
    there = [(g, w) for g, w in zip(row, weights, strict=True) if not math.isnan(g.reward)]
    if not there or any(map(is_failure, row)):
        return None
    return sum(grade.reward * weight for grade, weight in there)


def _status(row: Sequence[Grade], reward: float | None) -> str:
    failed = next((grade.status for grade in row if is_failure(grade)), None)
    if failed is None and reward is not None:
        return "ok"
    return failed or row[0].status


def _error(names: Sequence[str], row: Sequence[Grade]) -> str | None:
    for name, grade in zip(names, row, strict=True):
        if is_failure(grade):
            return grade.error if len(row) == 1 else f"{name}: {grade.error}"[:_ERROR_CHARACTERS]
    return None


def _counted(every: Mapping[str, Sequence[Grade]], statuses: Sequence[str], failed: int) -> Counts:
    counts = Counts(Counter(statuses), failed=failed)
    for name, grades in every.items():
        counts.rewards[name] = Counter(grade.status for grade in grades)
        metrics = counts.metrics.setdefault(name, {})
        for grade in grades:
            for metric, values in grade.metrics.items():
                known = metrics.setdefault(metric, [0.0, 0.0])
                finite = [value for value in values if not math.isnan(value)]
                known[0], known[1] = known[0] + sum(finite), known[1] + len(finite)
    return counts
