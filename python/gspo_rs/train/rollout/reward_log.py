"""What reward functions have logged for one batch, put together under names that are not ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.logged import Logged
from gspo_rs.rewards.pooled import STATUS_METRICS
from gspo_rs.samplers import SAMPLER_METRICS
from gspo_rs.train.metric_table import described
from gspo_rs.train.rollout.logged_completions import is_column

__all__ = ["means_of", "merged", "pooled"]


def merged(logged: Mapping[str, Logged], taken: Iterable[str] = ()) -> Logged:
    """Put together what several reward functions have logged.

    Parameters
    ----------
    logged : mapping of str to Logged
        By the name of the function.
    taken : iterable of str
        Columns that the rollout function gave.

    Returns
    -------
    Logged
        A metric of two functions has the values of both.

    Raises
    ------
    RewardError
        If a metric or a column has a name that a run has already, or two functions give one
        column; names function and name.

    Examples
    --------
    >>> merged({"one": Logged({"right": [0.5]}), "two": Logged({"right": [1.0]})}).metrics
    {'right': [0.5, 1.0]}
    """
    owner = dict.fromkeys(taken, "the rollout function")
    for function, found in logged.items():
        for name in found.metrics:
            if _is_ours(name):
                raise RewardError(
                    f"reward function {function} logged a metric {name!r}, a name that metrics of"
                    " a run have; give it another"
                )
        for name in found.extra:
            if is_column(name):
                raise RewardError(
                    f"reward function {function} logged a column {name!r}, a name that columns of"
                    " logged completions have; give it another"
                )
            if name in owner:
                raise RewardError(
                    f"{owner[name]} and reward function {function} both give a column {name!r};"
                    " rename one"
                )
            owner[name] = f"reward function {function}"
    extra = {name: column for found in logged.values() for name, column in found.extra.items()}
    return Logged(pooled([found.metrics for found in logged.values()]), extra)


def pooled(parts: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Join the values of each metric.

    Examples
    --------
    >>> pooled([{"a": [1.0]}, {"a": [2.0], "b": [3.0]}])
    {'a': [1.0, 2.0], 'b': [3.0]}
    """
    found: dict[str, list[float]] = {}
    for part in parts:
        for name, values in part.items():
            found.setdefault(name, []).extend(values)
    return found


def means_of(metrics: Mapping[str, list[float]], before: str = "") -> dict[str, float]:
    """Average each metric over its calls, leaving out NaN; NaN where nothing else is.

    How many calls had each status, and what a sampler has counted, is summed.

    Examples
    --------
    >>> means_of({"right": [0.5, math.nan, 1.0]}, "eval/")
    {'eval/right': 0.75}
    """
    found = {}
    for name, values in metrics.items():
        known = [value for value in values if not math.isnan(value)]
        over = 1 if name.startswith((STATUS_METRICS, SAMPLER_METRICS)) else len(known)
        found[before + name] = math.fsum(known) / over if known else math.nan
    return found


def _is_ours(name: str) -> bool:
    """Return whether a run writes a metric of this name, or of ``eval/`` and this name."""
    return name.startswith("eval/") or any(map(described, (name, f"eval/{name}")))
