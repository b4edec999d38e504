"""Rewards and group scores on Ray Data: the same columns, to the bit, as on one machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from gspo_rs.data.column_names import column, free_name
from gspo_rs.data.schema import as_keys
from gspo_rs.groups.estimators import estimator_named, resolve
from gspo_rs.polars import RewardNamespace
from gspo_rs.polars.expressions import NullIds
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.function import (
    function_engines,
    functions_of,
    scorer_of,
    weights_of,
)
from gspo_rs.rewards.grading.output import graded_frame
from gspo_rs.rewards.grading.rows import Piece

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["check", "grade", "score"]

COLUMNS = ("rank", "percentile", "advantage", "group_size", "group_mean", "group_std")


def score(
    dataset: Dataset,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    estimator: str = "percentile",
    partitions: int | None = None,
    null_ids: NullIds = "error",
    **options: Any,
) -> Dataset:
    """Add rank, percentile, advantage and the moments of its group to each row.

    Parameters
    ----------
    dataset : ray.data.Dataset
        Scored completions, one a row; the rows of a group may lie in any blocks.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    estimator : str
        One of `gspo_rs.advantage` that looks at one group at a time.
    partitions : int, optional
        Blocks to shuffle the groups into; Ray's default, 200, if left out. A block is scored in
        one task and has to fit in its memory.
    null_ids : {"error", "drop"}
        Whether a null key is an error, or its row gets nulls.
    **options
        Of the estimator. One that is a column is given as an expression:
        ``lengths=pl.col("length")``.

    Returns
    -------
    ray.data.Dataset
        Lazy. Its columns and types, then ``rank``, ``percentile``, ``advantage``, ``group_size``,
        ``group_mean`` and ``group_std``, as `RewardNamespace.score` of `gspo_rs.polars`, to the
        bit. Rows come partition by partition: take a row number along if their order matters.

    Raises
    ------
    ValueError
        If the estimator is unknown or needs all groups at once, an option depends on the order
        of rows, or `partitions` is less than 1. While it runs, within Ray's error: if a column is
        missing or one of the new ones is there, a key is null, or a reward is infinite.
    TypeError
        If an option is unknown, or is neither a number, a name nor an expression.

    Notes
    -----
    ``dataset.repartition(partitions, keys=by)`` brings each group into one block, which Ray never
    splits after that, and one call scores a whole block in Rust: no Python runs for each group.
    `check` counts again, independently.
    """
    keys = list(as_keys(by))
    _refuse_estimator(estimator, options)
    if partitions is not None and partitions < 1:
        raise ValueError(f"partitions is {partitions}; it is at least 1")
    parts = partitions or dataset.context.default_hash_shuffle_parallelism

    # Made by the worker, because an expression that calls Python does not travel.
    def scores() -> pl.Expr:
        return RewardNamespace(column(reward)).score(
            [column(key) for key in keys], estimator, null_ids=null_ids, **options
        )

    return dataset.repartition(parts, keys=keys).map_batches(
        _scorer(scores, keys, reward),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )


def check(scored: Dataset, *, by: str | Sequence[str], partitions: int | None = None) -> None:
    """Count the rows of each group again and compare with its ``group_size``.

    Parameters
    ----------
    scored : ray.data.Dataset
        What `score` returns, or what was written of it.
    by : str or sequence of str
        The columns that name the group of a row.
    partitions : int, optional
        As in `score`.

    Raises
    ------
    ValueError
        If a group has another number of rows than its rows say; names one by its key.
    """
    from ray.data.aggregate import Count, Max, Min

    keys = list(as_keys(by))
    names = [free_name([*keys, "group_size"], name) for name in ("rows", "least", "most")]
    counted = (
        scored.select_columns([*keys, "group_size"])
        .groupby(keys, num_partitions=partitions)
        .aggregate(
            Count(alias_name=names[0]),
            Min("group_size", alias_name=names[1]),
            Max("group_size", alias_name=names[2]),
        )
    )
    differing = partial(_differing, names=names)
    wrong = counted.map_batches(differing, batch_size=None, batch_format="pyarrow").take(1)
    if wrong:
        group = ", ".join(f"{key}={wrong[0][key]!r}" for key in keys)
        rows, *ends = (wrong[0][name] for name in names)
        sizes = sorted(set(ends))
        said = " and ".join(map(str, sizes))
        raise ValueError(f"the group {group} has {rows} rows, but its rows say {said}")


def _differing(counted: pa.Table, names: Sequence[str]) -> pa.Table:
    if not counted.num_columns:  # an empty partition
        return counted
    rows, least, most = (counted[name] for name in names)
    same = pc.and_(pc.equal(rows, least), pc.equal(rows, most))
    return counted.filter(pc.invert(same))


def grade(
    dataset: Dataset,
    *,
    reward: str | Sequence[str],
    reward_weights: Sequence[float] | None = None,
    prompt: str | None = "prompt",
    completion: str = "completion",
    columns: Sequence[str] = (),
    key: str | Sequence[str] = ("file", "row"),
    actors: int = 1,
    workers: int = 1,
    rows: int = 1024,
    **limits: Any,
) -> Dataset:
    """Grade completions by reward functions that may hang, crash, exit or take all memory.

    Parameters
    ----------
    dataset : ray.data.Dataset
        Completions, one a row.
    reward, reward_weights
        As of `gspo_rs.grade`; a file must be at the same place on every node.
    prompt, completion : str
        Their columns: texts, or lists of messages. No prompts if None.
    columns : sequence of str
        Columns that are handed on as keyword arguments.
    key : str or sequence of str
        Columns that name a row. The generators of a call are seeded by them; by ``file`` and
        ``row``, as `gspo_rs.grade` writes them, as there.
    actors, workers : int
        Actors, and processes of the pool that each of them has. An actor reserves so many cores.
    rows : int
        Rows that an actor grades at once, which are graded again if it is lost.
    **limits
        `timeout`, `start_timeout`, `memory` in bytes, `sandbox`, as of
        `gspo_rs.rewards.workers.Workers`, and `chunk`, rows of a call.

    Returns
    -------
    ray.data.Dataset
        Lazy. The keys and the columns of a part of `gspo_rs.grade`: ``reward``, ``reward_NAME``
        for each reward, ``status``, ``error``, ``seconds``, ``attempts`` and ``scorer``. They come
        in any order. Each row is there once, whatever is lost, but may have been graded twice.

    Raises
    ------
    RewardError, ValueError
        If the rewards or their weights make no sense. While it runs, within Ray's error: if a
        function cannot be loaded, or what it is given cannot be sent.

    Notes
    -----
    No share of failures stops the job: look at ``status``.
    """
    functions = functions_of(reward)
    weights = weights_of(list(functions), reward_weights)
    said = {} if prompt is None else {"prompt": prompt}
    said["completion"] = completion
    return dataset.map_batches(
        _Grader,
        fn_constructor_args=(functions, weights, said, list(columns), list(as_keys(key))),
        fn_constructor_kwargs={"workers": workers, "chunk": 1, **limits},
        concurrency=actors,
        num_cpus=workers,
        batch_size=rows,
        batch_format="pyarrow",
        zero_copy_batch=True,
    )


class _Grader:
    """What an actor does: it has a pool of its own."""

    def __init__(
        self,
        functions: dict[str, str],
        weights: list[float],
        said: dict[str, str],
        columns: list[str],
        keys: list[str],
        **options: Any,
    ) -> None:
        self._said, self._columns, self._keys, self._weights = said, columns, keys, weights
        options["prompts"] = "prompt" in said
        self._engines = function_engines(functions, options.pop("workers"), **options)

    def __call__(self, table: pa.Table) -> pa.Table:
        if not table.num_columns:  # an empty partition
            return table
        _refuse_missing(table, [*self._said.values(), *self._columns, *self._keys])
        there = table.filter(pc.is_valid(table[self._said["completion"]]))
        given = {name: there[name].to_pylist() for name in (*self._said.values(), *self._columns)}
        slices = Slice(
            given[self._said["prompt"]] if "prompt" in self._said else None,
            given[self._said["completion"]],
            {name: given[name] for name in self._columns},
            places=[_place(one) for one in there.select(self._keys).to_pylist()],
        )
        keys = pl.DataFrame(table.select(self._keys))
        valid = np.asarray(pc.is_valid(table[self._said["completion"]]))
        grades = {engine.name: engine.grade(slices) for engine in self._engines}
        piece = Piece(keys, slices, np.flatnonzero(valid))
        scorer = scorer_of(self._engines, self._weights)
        return graded_frame(piece, grades, self._weights, scorer)[0].to_arrow()


def _place(key: dict[str, Any]) -> str:
    """Name a row, in the words of grading files."""
    if list(key) == ["file", "row"]:
        return f"row {key['row']} of {key['file']}"
    return ", ".join(f"{name}={value!r}" for name, value in key.items())


def _refuse_estimator(estimator: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None and not isinstance(value, int | float | str | pl.Expr):
            kind = type(value).__name__
            raise TypeError(f"{name} is {kind}; on Ray it is a number, a name or an expression")
    resolve(estimator, options)
    if estimator_named(estimator).scope == "batch":  # which no worker has
        raise ValueError(f"{estimator} needs all groups at once; on Ray, use one that needs one")
    if options.get("ties") == "ordinal":
        raise ValueError("ties='ordinal' follows the order of rows, which Ray does not keep")


def _scorer(
    scores: Callable[[], pl.Expr], keys: list[str], reward: str
) -> Callable[[pa.Table], pa.Table]:
    """Return what adds the scores to a block that holds its groups whole."""

    def scored(table: pa.Table) -> pa.Table:
        if not table.num_columns:  # an empty partition
            return table
        expression = scores()
        names = list(dict.fromkeys([*keys, reward, *expression.meta.root_names()]))
        _refuse_columns(table, names)
        # Only the short columns: the others keep their types and are not touched.
        frame = pl.DataFrame(table.select(names))
        _refuse_infinite(frame, keys, reward)
        found = frame.select(expression.alias("score"))["score"].struct.unnest()
        for values in found:
            table = table.append_column(values.name, values.to_arrow())
        return table

    return scored


def _refuse_missing(table: pa.Table, names: list[str]) -> None:
    has = ", ".join(table.column_names)
    for name in names:
        if name not in table.column_names:
            raise ValueError(f"the data set has no column {name!r}; it has {has}")


def _refuse_columns(table: pa.Table, names: list[str]) -> None:
    _refuse_missing(table, names)
    for name in COLUMNS:
        if name in table.column_names:
            raise ValueError(f"the data set has a column {name!r} already; rename or drop it")


def _refuse_infinite(frame: pl.DataFrame, keys: list[str], reward: str) -> None:
    if frame.schema[reward].is_float():
        infinite = frame.filter(frame[reward].alias("reward").is_infinite())
        if infinite.height:
            group = ", ".join(f"{key}={infinite[key][0]!r}" for key in keys)
            value = math.copysign(math.inf, infinite[reward][0])
            raise ValueError(f"a reward of the group {group} is {value}; use null or NaN")
