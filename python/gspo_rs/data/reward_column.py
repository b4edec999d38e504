"""A Polars column of rewards as an array."""

from __future__ import annotations

import numpy as np
import polars as pl

from gspo_rs.groups.checks import Floats, as_rewards

__all__ = ["rewards_of"]


def rewards_of(series: pl.Series) -> Floats:
    """Return the rewards of a column as float64, null as NaN.

    Returns
    -------
    ndarray of float64, shape (n,), or (n, k) for a column of type ``Array`` of width k

    Raises
    ------
    TypeError
        If they are neither integers, floats nor bools, or would be rounded.

    Examples
    --------
    >>> rewards_of(pl.Series([1, None]))
    array([ 1., nan])
    """
    dtype, name = series.dtype, series.name
    # Methods of a Series select it by its name, as if that were a pattern.
    series = series.alias("rewards")
    if isinstance(dtype, pl.Array):
        return np.column_stack([rewards_of(s) for s in series.arr.to_struct().struct.unnest()])
    if dtype == pl.Null:
        return np.full(len(series), np.nan)
    if dtype.is_float():
        return as_rewards(series.fill_null(np.nan).to_numpy())
    if not (dtype.is_integer() or dtype == pl.Boolean):
        raise TypeError(f"the rewards {name!r} are {dtype}; use integers, floats or bools")
    return as_rewards(series)
