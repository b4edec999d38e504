"""The ``gspo`` namespace of Polars: group statistics on expressions and frames.

``import gspo_rs.polars`` registers it on ``Expr``, ``DataFrame`` and ``LazyFrame``. Every method
computes what the array function of the same name computes, to the bit; a value that is NaN there
(an unscorable reward, a row of no group) is null here, as in the rest of Polars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from gspo_rs import data
from gspo_rs.groups.advantages import advantage, columns_and_advantage
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import Column, rows
from gspo_rs.groups.statistics import TIES, Ties
from gspo_rs.groups.synonyms import listed
from gspo_rs.polars.expressions import OF_A_GROUP, By, NullIds, describe, mapped, narrow
from gspo_rs.rollouts.rollouts import Rollouts

__all__ = ["FrameNamespace", "LazyFrameNamespace", "RewardNamespace"]


@pl.api.register_expr_namespace("gspo")
class RewardNamespace:
    """Statistics of each reward within its group: ``pl.col("reward").gspo``.

    The expression holds one reward per row, and `by` names the columns that name the group. Left
    out, each row holds the rewards of one group in a list, and the results are lists alike.

    Parameters that all methods share:

    by : str, Expr, or sequence of these, optional
        The key columns: integers, strings, bytes, categories, enums, dates or structs of these.
    null_ids : {"error", "drop"}
        Whether a null key is an error, or its row belongs to no group and gets nulls.

    Raises on collection what the array functions raise, and `TypeError` for a column of rewards
    that are neither numbers nor bools. Rewards of type ``Array(Float64, k)`` beside a `by` are k
    rewards per row, for the advantages that take several.
    """

    def __init__(self, expr: pl.Expr) -> None:
        self._rewards = expr

    def rank(
        self, by: By | None = None, method: Ties = "average", *, null_ids: NullIds = "error"
    ) -> pl.Expr:
        """Rank each reward within its group, 1 for the lowest; see `gspo_rs.rank`.

        Returns
        -------
        Expr of Float64, or of lists of them
            Null for an unscorable reward.

        Examples
        --------
        >>> frame = pl.DataFrame({"id": ["a", "b", "a"], "reward": [3.0, 0.0, 1.0]})
        >>> frame.select(pl.col("reward").gspo.rank(by="id")).to_series().to_list()
        [2.0, 1.0, 1.0]
        """
        if method not in TIES:
            raise ValueError(f"method is {method!r}; use one of {listed(method, TIES)}")
        return self._one(by, null_ids, ("rank", {"method": method}))

    def percentile(self, by: By | None = None, *, null_ids: NullIds = "error") -> pl.Expr:
        """Return the share of the others that each reward beats; see `gspo_rs.percentile`.

        Returns
        -------
        Expr of Float64, or of lists of them
            In [0, 1]; null for an unscorable reward.

        Examples
        --------
        >>> frame = pl.DataFrame({"rewards": [[3.0, 1.0, 2.0], [None, 1.0]]})
        >>> frame.select(pl.col("rewards").gspo.percentile()).to_series().to_list()
        [[1.0, 0.0, 0.5], [None, 0.5]]
        """
        return self._one(by, null_ids, ("percentile", {}))

    def top_fraction(
        self, q: float, by: By | None = None, *, null_ids: NullIds = "error"
    ) -> pl.Expr:
        """Return the share of each row in the best `q` of its group; see `gspo_rs.top_fraction`.

        Returns
        -------
        Expr of Float64, or of lists of them
            In [0, 1]; null for an unscorable reward.

        Examples
        --------
        >>> frame = pl.DataFrame({"id": ["a", "a"], "reward": [3.0, 0.0]})
        >>> frame.select(pl.col("reward").gspo.top_fraction(0.5, by="id")).to_series().to_list()
        [1.0, 0.0]
        """
        return self._one(by, null_ids, ("top_fraction", {"q": float(q)}))

    def advantage(
        self,
        estimator: str = "percentile",
        by: By | None = None,
        *,
        null_ids: NullIds = "error",
        **options: Any,
    ) -> pl.Expr:
        """Return the advantage of each reward over its group; see `gspo_rs.advantage`.

        An option may be an expression: ``advantage("opo", by="id", lengths=pl.col("length"))``.

        Returns
        -------
        Expr of Float64, or of lists of them
            0 for an unscorable reward; null only for a row of no group.

        Examples
        --------
        >>> frame = pl.DataFrame({"id": ["a", "a"], "reward": [3.0, 0.0]})
        >>> frame.select(pl.col("reward").gspo.advantage("mean", by="id")).to_series().to_list()
        [1.5, -1.5]
        """

        def compute(rewards: Floats, groups: Groups, given: dict[str, Any]) -> dict[str, Floats]:
            return {"advantage": advantage(rewards, groups, estimator, **given)}

        return mapped(self._rewards, by, compute, null_ids=null_ids, options=options)

    def score(
        self,
        by: By | None = None,
        estimator: str = "percentile",
        *,
        null_ids: NullIds = "error",
        **options: Any,
    ) -> pl.Expr:
        """Return rank, percentile, advantage and the moments of the group, grouping once.

        Returns
        -------
        Expr of Struct
            ``rank``, ``percentile``, ``advantage`` (each a list, for lists of rewards),
            ``group_size`` (Int64), ``group_mean`` and ``group_std`` (ddof 1).

        Examples
        --------
        >>> frame = pl.DataFrame({"id": ["a", "a"], "reward": [3.0, 0.0]})
        >>> scores = frame.select(score=pl.col("reward").gspo.score(by="id")).unnest("score")
        >>> scores.select("rank", "group_size", "group_mean").rows()
        [(2.0, 2, 1.5), (1.0, 2, 1.5)]
        """
        fields = ("rank", "percentile", "advantage", *OF_A_GROUP)

        def compute(rewards: Floats, groups: Groups, given: dict[str, Any]) -> dict[str, Floats]:
            rank: Column = ("rank", {"method": "average"})
            columns = (rank, "percentile", *OF_A_GROUP)
            found = columns_and_advantage(rewards, groups, columns, estimator, given)
            named = dict(zip(["rank", "percentile", *OF_A_GROUP, "advantage"], found, strict=True))
            return {name: named[name] for name in fields}

        return mapped(self._rewards, by, compute, fields=fields, null_ids=null_ids, options=options)

    def _one(self, by: By | None, null_ids: NullIds, column: tuple[str, dict[str, Any]]) -> pl.Expr:
        def compute(rewards: Floats, groups: Groups, _: dict[str, Any]) -> dict[str, Floats]:
            return {column[0]: rows(rewards, groups, [column])[0]}

        return mapped(self._rewards, by, compute, null_ids=null_ids)


@pl.api.register_lazyframe_namespace("gspo")
class LazyFrameNamespace:
    """The groups of a lazy frame: ``lf.gspo``."""

    def __init__(self, frame: pl.LazyFrame) -> None:
        self._frame = frame

    def stats(
        self, by: By, reward: str | pl.Expr = "reward", *, null_ids: NullIds = "error"
    ) -> pl.LazyFrame:
        """Describe each group in one row; see `gspo_rs.stats`.

        Parameters
        ----------
        by : str, Expr, or sequence of these
            The key columns; they come first in the result, groups by first appearance.
        reward : str or Expr
            The rewards.
        null_ids : {"error", "drop"}
            Whether a null key is an error, or its row is left out.

        Returns
        -------
        LazyFrame
            The keys and the fields of `gspo_rs.GroupStats`. The schema of the frame is
            resolved at once, its rows are read on collection.

        Examples
        --------
        >>> frame = pl.LazyFrame({"id": ["a", "b", "a"], "reward": [3.0, 0.0, 1.0]})
        >>> frame.gspo.stats(by="id").select("id", "size", "mean").collect().rows()
        [('a', 2, 2.0), ('b', 1, 0.0)]
        """
        selected = self._frame.select(narrow(by, reward))
        empty = selected.collect_schema().to_frame()
        schema = describe(empty, null_ids).schema
        # No pushdown: a filter or slice of groups must not become one of rows.
        return selected.map_batches(
            lambda frame: describe(frame, null_ids),
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
            schema=schema,
            streamable=False,
        )

    def rollouts(self, by: str | Sequence[str] | None = None, **options: Any) -> Iterator[Rollouts]:
        """Read whole groups, some at a time; `options` are those of `gspo_rs.data.rollouts`.

        Examples
        --------
        >>> frame = pl.LazyFrame({"prompt": ["?", "?"], "completion": ["a", "b"], "reward": [0, 1]})
        >>> [batch.n_rollouts for batch in frame.gspo.rollouts(by="prompt", batch_groups=8)]
        [2]
        """
        return data.rollouts(self._frame, by=by, **options)


@pl.api.register_dataframe_namespace("gspo")
class FrameNamespace:
    """The groups of a frame: ``df.gspo``."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def stats(
        self, by: By, reward: str | pl.Expr = "reward", *, null_ids: NullIds = "error"
    ) -> pl.DataFrame:
        """Describe each group in one row, as `LazyFrameNamespace.stats`."""
        return describe(self._frame.select(narrow(by, reward)), null_ids)

    def rollouts(self, by: str | Sequence[str] | None = None, **options: Any) -> Iterator[Rollouts]:
        """Read whole groups, some at a time, as `LazyFrameNamespace.rollouts`."""
        return data.rollouts(self._frame, by=by, **options)
