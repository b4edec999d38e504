"""When grading stops early: the first rows all raise the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gspo_rs.rewards.errors import GradingError
from gspo_rs.rewards.functions import titled
from gspo_rs.rewards.grading.engine import Engine, Slice
from gspo_rs.rewards.workers import Grade

__all__ = ["alike", "digest_of"]

# Rows that are tried first.
_TRIED = 32


def alike(engine: Engine, rows: Slice) -> list[Grade]:
    """Grade the first rows of all, and then the others unless these have all raised the same.

    Raises
    ------
    GradingError
        If they have; with the first traceback.
    """
    n = len(rows.completions)
    grades = list(engine.grade(_cut(rows, slice(0, _TRIED))))
    kinds = {grade.error.partition(":")[0] for grade in grades}
    if grades and len(kinds) == 1 and all(one.status == "error" for one in grades):
        first = grades[0]
        count = f"the first {len(grades)} rows" if len(grades) < n else f"all {n} rows"
        raise GradingError(
            f"{titled(engine.name)} fails alike on {count}: {first.error}; {rows.places[0]}",
            first.trace,
        )
    return grades + (list(engine.grade(_cut(rows, slice(_TRIED, n)))) if n > _TRIED else [])


def _cut(rows: Slice, some: slice) -> Slice:
    return replace(
        rows,
        prompts=None if rows.prompts is None else rows.prompts[some],
        completions=rows.completions[some],
        columns={name: values[some] for name, values in rows.columns.items()},
        groups=None if rows.groups is None else rows.groups[some],
        places=rows.places[some],
    )


def digest_of(values: Sequence[Any]) -> str:
    """Return the SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
