"""Remote files at addresses such as ``s3://``, read by Polars."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence

import polars as pl

from gspo_rs.data.column_names import column
from gspo_rs.data.hive import partitions, refuse_hidden

__all__ = ["scan_addresses"]


def scan_addresses(addresses: Sequence[str]) -> pl.LazyFrame:
    """Scan Parquet files at addresses.

    Parameters
    ----------
    addresses : sequence of str
        Files, folders that end in ``/``, or globs. What folders called ``key=value`` below these
        two say is text: Polars would take ``01`` for 1.

    Raises
    ------
    ValueError
        If a folder hides a column of its files.
    PolarsError, OSError
        If they can't be read.
    """
    frame = pl.scan_parquet(list(addresses), hive_partitioning=False)
    if not any(address.endswith("/") or glob.has_magic(address) for address in addresses):
        return frame
    columns = frame.collect_schema().names()
    path = "path" + "_" * max(map(len, ["", *columns]))
    named = pl.scan_parquet(list(addresses), hive_partitioning=False, include_file_paths=path)
    for (file,) in named.select(path).head(1).collect().iter_rows():
        # Where the first folder that is not given in full begins.
        base = re.split(r"[*?\[]", addresses[0])[0].rpartition("/")[0]
        below = partitions([file.removeprefix(base)])
        # Of a glob, Polars takes the folders above, too.
        known = partitions([file]) if glob.has_magic(addresses[0]) else below
        if below is not None and known is not None:
            refuse_hidden(columns, file, known)
            texts = dict.fromkeys(known.columns, pl.String)
            found = pl.scan_parquet(list(addresses), hive_partitioning=True, hive_schema=texts)
            return found.select(column(name) for name in [*columns, *below.columns])
    return frame
