"""Hugging Face data sets, converted through Arrow without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from datasets import Dataset, concatenate_datasets

import gspo_rs.polars  # noqa: F401 - names `gspo` on the expressions below
from gspo_rs.data.column_names import column
from gspo_rs.data.schema import as_keys
from gspo_rs.data.tables import table_of
from gspo_rs.polars.expressions import NullIds

__all__ = ["from_dataset", "score", "to_dataset"]


def from_dataset(dataset: Dataset, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """View the rows of a data set as a Polars frame.

    Parameters
    ----------
    dataset : datasets.Dataset
        One split; of a data set that was shuffled, filtered or selected, its rows as they are.
    columns : sequence of str, optional
        Which ones; by default all. The others are not touched.

    Returns
    -------
    DataFrame
        Numbers lie where the data set has them, in its memory map as a rule. Polars keeps a view
        of 16 bytes for each string. Rows that were chosen or shuffled are copied.

    Raises
    ------
    ValueError
        If a column is missing; names those that are there.

    Examples
    --------
    >>> dataset = Dataset.from_dict({"id": ["a", "a"], "reward": [0.0, 1.0]})
    >>> from_dataset(dataset.select([1]))["reward"].to_list()
    [1.0]
    """
    missing = [name for name in columns or () if name not in dataset.column_names]
    if missing:
        has = ", ".join(map(repr, dataset.column_names))
        raise ValueError(f"the data set has no column {missing[0]!r}; it has {has}")
    chosen = dataset if columns is None else dataset.select_columns(list(columns))
    table = table_of(chosen)
    assert table is not None
    assert isinstance(table[0], pl.LazyFrame)
    return table[0].collect()


def to_dataset(frame: pl.DataFrame) -> Dataset:
    """Create a data set from a Polars frame.

    Parameters
    ----------
    frame : DataFrame
        Narrow columns such as scores: numbers are not copied, strings are.

    Returns
    -------
    datasets.Dataset

    Examples
    --------
    >>> to_dataset(pl.DataFrame({"percentile": [0.0, 1.0]}))[1]
    {'percentile': 1.0}
    """
    return Dataset(frame.to_arrow())


def score(
    dataset: Dataset,
    *,
    by: str | Sequence[str],
    reward: str = "reward",
    estimator: str = "percentile",
    null_ids: NullIds = "error",
    **options: Any,
) -> Dataset:
    """Add rank, percentile, advantage and the moments of its group to each row of a data set.

    Parameters
    ----------
    dataset : datasets.Dataset
        Scored completions, one a row, in any order.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    estimator : str
        One of `gspo_rs.advantage`.
    null_ids : {"error", "drop"}
        Whether a null key is an error, or its row gets nulls.
    **options
        Of the estimator. One that is a column is given as an expression:
        ``lengths=pl.col("length")``.

    Returns
    -------
    datasets.Dataset
        All columns as they were, and ``rank``, ``percentile``, ``advantage``, ``group_size``,
        ``group_mean`` and ``group_std`` beside them.

    Raises
    ------
    ValueError
        If a column is missing or one of the new ones is there already; as
        ``pl.col(reward).gspo.score`` else.
    TypeError
        If a column has the wrong type.

    Examples
    --------
    >>> dataset = Dataset.from_dict({"id": ["a", "b", "a"], "reward": [0.0, 1.0, 1.0]})
    >>> score(dataset, by="id")["percentile"][:]
    [0.0, 0.5, 1.0]
    """
    keys = as_keys(by)
    expression = column(reward).gspo.score(  # type: ignore[attr-defined]
        by=[column(key) for key in keys], estimator=estimator, null_ids=null_ids, **options
    )
    read = list(dict.fromkeys([*keys, reward, *expression.meta.root_names()]))
    frame = from_dataset(dataset, read)
    scores = frame.select(expression.alias("score")).unnest("score")
    for name in scores.columns:
        if name in dataset.column_names:
            raise ValueError(f"the data set has a column {name!r} already; rename or drop it")
    return concatenate_datasets([dataset, to_dataset(scores)], axis=1)
