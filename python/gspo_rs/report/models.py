"""Where the completions of each model stand in their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.report.narrow import Narrow
from gspo_rs.statistics import GroupStats, percentile

__all__ = ["Standing", "standings"]


@dataclass(frozen=True)
class Standing:
    """One model among the others.

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


def standings(narrow: Narrow, stats: GroupStats) -> Sequence[Standing]:
    """Rank the models by their mean percentile, best first; `narrow` has models.

    Returns
    -------
    sequence of Standing
        Empty if no group has scored rollouts of two models.
    """
    assert narrow.model is not None
    kept = ~np.isnan(narrow.reward) & (stats.scored >= 2)[narrow.groups.codes]
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
    found = (
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
    return [Standing(narrow.models[row.pop("model")], **row) for row in found.iter_rows(named=True)]
