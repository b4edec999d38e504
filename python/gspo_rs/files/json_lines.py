"""JSON lines whose nested values are written exactly as they were read."""

from __future__ import annotations

import json

import polars as pl

__all__ = ["LINE", "lines"]

LINE = "line"


def lines(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows as lines of JSON, in one column.

    Parameters
    ----------
    frame : DataFrame
        What is binary is JSON already, and so are the items of lists of binary; the rest is
        what Polars can write.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> frame = pl.DataFrame({"messages": [b'[{"role": "user"}]', None], "reward": [0.5, 1.0]})
    >>> lines(frame)["line"].to_list()
    ['{"messages":[{"role": "user"}],"reward":0.5}', '{"messages":null,"reward":1.0}']
    """
    # Numbers for names: a column may be called like a pattern.
    numbered = frame.rename({name: f"c{i}" for i, name in enumerate(frame.columns)})
    parts: list[pl.Expr] = []
    for i, (name, kind) in enumerate(frame.schema.items()):
        parts.append(pl.lit(("," if i else "{") + json.dumps(name, ensure_ascii=False) + ":"))
        parts.append(_value(f"c{i}", kind))
    return numbered.select(pl.concat_str([*parts, pl.lit("}")]).alias(LINE))


def _value(name: str, kind: pl.DataType) -> pl.Expr:
    if kind == pl.Binary:
        return _text(pl.col(name))
    if kind == pl.List(pl.Binary):
        items = pl.col(name).list.eval(_text(pl.element())).list.join(",")
        return pl.when(pl.col(name).is_null()).then(pl.lit("null")).otherwise("[" + items + "]")
    whole = pl.struct(pl.col(name).alias("v")).struct.json_encode()
    return whole.str.strip_prefix('{"v":').str.strip_suffix("}")


def _text(written: pl.Expr) -> pl.Expr:
    return written.cast(pl.String).fill_null("null")
