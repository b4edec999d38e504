"""What more draws from a prompt would bring, for all rollouts and for each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups import Groups
from gspo_rs.report.narrow import Floats, Narrow
from gspo_rs.statistics import best_of_n, pass_at_k, stats

__all__ = ["EVERYTHING", "Curve", "curves"]

EVERYTHING = "all rollouts"
MODELS = 5


@dataclass(frozen=True)
class Curve:
    """Mean over groups of pass at k, or of the best of k rewards.

    Attributes
    ----------
    name : str
        The model, or `EVERYTHING`.
    n_groups : int
        The groups that have enough scored rollouts for the last k; the same for every k.
    draws : tuple of int
        The values of k: powers of two, then the most draws that half of the groups have.
    mean, error : tuple of float
        The mean at each k, and its standard error over groups (ddof 1).
    """

    name: str
    n_groups: int
    draws: tuple[int, ...]
    mean: tuple[float, ...]
    error: tuple[float, ...]


def curves(narrow: Narrow, threshold: float | None) -> Sequence[Curve]:
    """Estimate what k draws bring: pass at k with a `threshold`, else the best of k.

    Returns
    -------
    sequence of Curve
        One for all rollouts, then of the models with most rollouts those that sampled a prompt
        more than once; empty if most groups have one scored rollout.
    """
    found = [_curve(EVERYTHING, narrow.reward, narrow.groups, threshold)]
    if narrow.model is not None and len(narrow.models) > 1:
        count = np.bincount(narrow.model)
        for model in np.argsort(-count, kind="stable")[:MODELS].tolist():
            rows = np.flatnonzero(narrow.model == model)
            groups = Groups(pl.Series(narrow.groups.codes[rows]))
            found.append(_curve(narrow.models[model], narrow.reward[rows], groups, threshold))
    return [curve for curve in found if curve is not None]


def _curve(name: str, reward: Floats, groups: Groups, threshold: float | None) -> Curve | None:
    scored = stats(reward, groups).scored
    scored = scored[scored > 0]
    most = int(np.sort(scored)[len(scored) // 2]) if len(scored) else 0
    if most < 2:
        return None
    draws = [2**power for power in range(math.ceil(math.log2(most)))] + [most]
    enough = stats(reward, groups).scored >= most
    values = np.array([_values(reward, groups, k, threshold)[enough] for k in draws])
    count = int(enough.sum())
    error = values.std(axis=1, ddof=1) / math.sqrt(count) if count > 1 else values[:, 0] * math.nan
    return Curve(name, count, tuple(draws), tuple(values.mean(axis=1)), tuple(error))


def _values(reward: Floats, groups: Groups, k: int, threshold: float | None) -> Floats:
    if threshold is None:
        return best_of_n(reward, groups, k)
    return pass_at_k(reward, groups, k, threshold)
