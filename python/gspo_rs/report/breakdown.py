"""Tables by the value of a column: how each task, or each model, does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups.statistics import GroupStats
from gspo_rs.report.load import Labels, ReportRows

__all__ = ["Part", "breakdown"]


@dataclass(frozen=True)
class Part:
    """The rows with one value of a column.

    Attributes
    ----------
    name : str
    n_rollouts, n_scored, n_groups, n_informative : int
        Rows, those with a reward, groups that have one of the rows, and those of them with two
        different rewards in the whole group.
    mean : float or None
        Of the rewards; None if there is none.
    right : float or None
        Share of the rewards that are `threshold` or more; None without a threshold or reward.
    length : float or None
        Mean length of the completions; None where there is none.
    """

    name: str
    n_rollouts: int
    n_scored: int
    n_groups: int
    n_informative: int
    mean: float | None
    right: float | None
    length: float | None


def breakdown(
    labels: Labels, narrow: ReportRows, stats: GroupStats, threshold: float | None
) -> Sequence[Part]:
    """Describe the rows of each label, most rows first, then in the order of their names."""
    missing = np.full(len(narrow.reward), np.nan)
    frame = pl.DataFrame(
        {
            "label": labels.codes,
            "group": narrow.groups.codes,
            "reward": narrow.reward,
            "length": missing if narrow.length is None else narrow.length,
            "informative": stats.informative[narrow.groups.codes],
        },
        nan_to_null=True,
    ).with_columns(pl.col("reward", "length").fill_nan(None))
    right = pl.lit(None, pl.Float64) if threshold is None else pl.col("reward") >= threshold
    found = frame.group_by("label").agg(
        n_rollouts=pl.len(),
        n_scored=pl.col("reward").count(),
        n_groups=pl.col("group").n_unique(),
        n_informative=pl.col("group").filter("informative").n_unique(),
        mean=pl.col("reward").mean(),
        right=right.mean(),
        length=pl.col("length").mean(),
    )
    parts = [Part(labels.names[row.pop("label")], **row) for row in found.iter_rows(named=True)]
    return sorted(parts, key=lambda part: (-part.n_rollouts, part.name))
