"""Columns as tensors, or as lists of objects where there are no tensors of their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from gspo_rs.data.schema import GroupBatch
from gspo_rs.data.source import Source

__all__ = ["as_tensor"]

TENSORS = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean),
)


def as_tensor(cut: GroupBatch, column: str, name: str, source: Source) -> Any:
    """Return a column of `cut` as a tensor, or as a list if there are no tensors of its type.

    Raises
    ------
    ValueError
        If an integer or bool is null; names the row.
    """
    values = cut.frame[column]
    if values.dtype not in TENSORS:
        return source.objects(values)
    if values.dtype.is_float():
        values = values.fill_null(np.nan)
    if values.null_count():
        row = cut.rows[values.is_null().arg_max()]
        raise ValueError(f"column {name!r} is null at row {row}; fill it, or cast it to float")
    return torch.from_numpy(values.to_numpy(writable=True))
