"""Distinct labels for the values of a column."""

from __future__ import annotations

import polars as pl

__all__ = ["NULL", "labelled"]

NULL = "null"


def labelled(value: pl.Expr) -> pl.Expr:
    """Return a distinct label for each value.

    Parameters
    ----------
    value : Expr
        Of a column of any type that has a text.

    Returns
    -------
    Expr of String
        The text as it is; ``null`` for null. A text that could be taken for something else is in
        quotation marks: the word null, an empty one, and one with a space or a mark at its ends.

    Examples
    --------
    >>> frame = pl.DataFrame({"model": [None, "null", "", "None", "x"]})
    >>> frame.select(labelled(pl.col("model"))).to_series().to_list()
    ['null', '"null"', '""', 'None', 'x']
    """
    text = value.cast(pl.String)
    ends = text.str.starts_with('"') | text.str.ends_with('"') | (text.str.strip_chars() != text)
    quoted = pl.concat_str(pl.lit('"'), text, pl.lit('"'))
    odd = ends | text.is_in(["", NULL])
    return pl.when(text.is_null()).then(pl.lit(NULL)).when(odd).then(quoted).otherwise(text)
