"""Comparison of models: percentiles within groups, and curves over more draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import GroupStats, best_of_n, pass_at_k, percentile, stats
from gspo_rs.report.load import ReportRows

__all__ = ["EVERYTHING", "Curve", "Standing", "curves", "standings"]

EVERYTHING = "all rollouts"
MODELS = 5


@dataclass(frozen=True)
class Standing:
    """The result of one model among others.

    Attributes
    ----------
    model : str
    n_rollouts, n_groups : int
        Scored rollouts, and groups with them, among those that compare two models or more.
    percentile : float
        Mean over those groups of the mean percentile of its rollouts in the group.
    error : float
        Standard error of that mean over groups (ddof 1); NaN for one group.
    reward : float
        Mean reward of its scored rollouts in those groups.
    """

    model: str
    n_rollouts: int
    n_groups: int
    percentile: float
    error: float
    reward: float


def standings(narrow: ReportRows, found: GroupStats) -> Sequence[Standing]:
    """Rank the models by their mean percentile, best first; `narrow` has models.

    Returns
    -------
    sequence of Standing
        Empty if no group has scored rollouts of two models.
    """
    assert narrow.model is not None
    kept = ~np.isnan(narrow.reward) & (found.scored >= 2)[narrow.groups.codes]
    rows = pl.DataFrame(
        {
            "group": narrow.groups.codes,
            "model": narrow.model,
            "reward": narrow.reward,
            "percentile": percentile(narrow.reward, narrow.groups),
        }
    ).filter(kept)
    cells = rows.group_by("group", "model").agg(
        pl.col("percentile").mean(), pl.col("reward").sum(), pl.len().alias("n")
    )
    compared = cells.filter(pl.len().over("group") > 1)
    ranked = (
        compared.group_by("model")
        .agg(
            n_rollouts=pl.col("n").sum(),
            n_groups=pl.len(),
            percentile=pl.col("percentile").mean(),
            error=pl.col("percentile").std() / pl.len().sqrt(),
            reward=pl.col("reward").sum() / pl.col("n").sum(),
        )
        .sort(["percentile", "model"], descending=[True, False])
        .with_columns(pl.col("error").fill_null(float("nan")))
    )
    return [
        Standing(narrow.models[row.pop("model")], **row) for row in ranked.iter_rows(named=True)
    ]


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


def curves(narrow: ReportRows, threshold: float | None) -> Sequence[Curve]:
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
