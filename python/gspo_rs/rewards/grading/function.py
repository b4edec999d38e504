"""Reward functions that a pool of workers calls, as engines of grading."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.functions import GIVEN, titled
from gspo_rs.rewards.grading.engine import Engine, Slice
from gspo_rs.rewards.pooled import refuse_unsendable
from gspo_rs.rewards.workers import Grade, Workers

__all__ = ["FunctionEngine", "function_engines"]


class FunctionEngine:
    """A reward function with TRL's signature that a pool calls.

    Parameters
    ----------
    workers : Workers
        The pool, which may have more functions.
    name, spec : str
        Of the function, and where it is.
    chunk : int
        Rows of a call.
    """

    kind = "function"
    whole_groups = False

    def __init__(self, workers: Workers, name: str, spec: str, chunk: int) -> None:
        self.name, self._workers, self._chunk = name, workers, chunk
        self.progress: Callable[[Sequence[Grade]], None] | None = None
        source = workers.sources[name]
        self.scorer = hashlib.sha256(json.dumps([spec, source, chunk]).encode()).hexdigest()

    def grade(self, rows: Slice) -> Sequence[Grade]:
        """Call the function on each row; see `Engine`.

        Raises
        ------
        RewardError
            If a column holds what cannot be sent.
        """
        given: dict[str, Sequence[Any]] = {"completions": rows.completions, **rows.columns}
        if rows.prompts is not None:
            given["prompts"] = rows.prompts
        for column, values in given.items():
            refuse_unsendable(self.name, column, values, "drop it")
        calls = [
            {column: [values[row]] for column, values in given.items()}
            for row in range(len(rows.completions))
        ]
        # Of the place of the row, so that no reward depends on the worker, nor on what was before.
        seeds = [zlib.crc32(place.encode()) for place in rows.places]
        return self._workers.grade(
            self.name, calls, seeds=seeds, chunk=self._chunk, progress=self.progress
        )

    def close(self) -> None:
        """End the workers, those of the other functions too."""
        self._workers.close()


def function_engines(
    functions: Mapping[str, str], workers: int, *, chunk: int, prompts: bool, **options: Any
) -> list[Engine]:
    """Return one engine for each reward function, of one pool.

    Parameters
    ----------
    functions : mapping of str to str
        By name, as ``file.py:function`` or ``module:function``.
    workers : int
        Processes.
    chunk : int
        Rows of a call.
    prompts : bool
        Whether there are prompts to hand on.
    **options
        Those of `Workers`.

    Raises
    ------
    RewardError
        If one cannot be loaded, or wants prompts where there are none.
    """
    pool = Workers(functions, workers, **options)
    try:
        for name in functions:
            if not prompts and GIVEN[0] in (pool.parameters[name] or ()):
                raise RewardError(
                    f"{titled(name)} takes prompts, and no column of them is known; name it with"
                    " --prompt (prompt=…)"
                )
        return [FunctionEngine(pool, name, spec, chunk) for name, spec in functions.items()]
    except BaseException:
        pool.close()
        raise
