"""Reward functions that a pool of workers calls, as engines of grading."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.functions import GIVEN, name_of, titled
from gspo_rs.rewards.grading.engine import Engine, Slice
from gspo_rs.rewards.grading.limits import digest_of
from gspo_rs.rewards.pooled import refuse_unsendable
from gspo_rs.rewards.workers import Grade, Workers

__all__ = ["FunctionEngine", "function_engines", "functions_of", "scorer_of", "weights_of"]


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


def functions_of(reward: str | Sequence[str]) -> dict[str, str]:
    """Return where reward functions are, by name.

    Raises
    ------
    RewardError
        If one is no text, or two have one name.

    Examples
    --------
    >>> functions_of(["my.py:length", "statistics:fmean"])
    {'length': 'my.py:length', 'fmean': 'statistics:fmean'}
    """
    specs = [reward] if isinstance(reward, str) or callable(reward) else list(reward)
    found: dict[str, str] = {}
    for one in specs:
        if not isinstance(one, str):
            raise RewardError(
                f"reward {name_of(one)} is a function in memory, which workers cannot load: name it"
                " as file.py:function or module:function"
            )
        name = one.rpartition(":")[2]
        if name in found:
            raise RewardError(f"two rewards are called {name}; rename one of the functions")
        found[name] = one
    return found


def weights_of(names: Sequence[str], given: Sequence[float] | None) -> list[float]:
    """Return the weight of each reward in the sum, 1 by default.

    Raises
    ------
    RewardError
        If there is no reward, or two have one name.
    ValueError
        If there are not as many weights, or one is not finite.
    """
    if not names:
        raise RewardError("no reward is given: name a function, as file.py:function")
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise RewardError(f"two rewards are called {twice[0]}; names must differ")
    weights = [1.0] * len(names) if given is None else [float(weight) for weight in given]
    if len(weights) != len(names) or not np.isfinite(weights).all():
        raise ValueError(
            f"reward_weights = {given!r}: give {len(names)} finite numbers, one for each of"
            f" {', '.join(names)}"
        )
    return weights


def scorer_of(engines: Sequence[Engine], weights: Sequence[float]) -> str:
    """Return a digest of all that decides about the sum of some rewards beside the rows."""
    return digest_of([[one.name, one.scorer, w] for one, w in zip(engines, weights, strict=True)])


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
