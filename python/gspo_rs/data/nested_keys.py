"""Keys of groups that are lists or structs, such as prompts of chat messages, as text."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from gspo_rs.data.column_names import path_to
from gspo_rs.data.messages import conversation_in

__all__ = ["has_exact_text", "key_column", "key_text"]

# What JSON has one text for, so that two values have the same text just if they are equal.
EXACT = (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Date, pl.Datetime, pl.Null)


def has_exact_text(kind: object) -> bool:
    """Tell whether the values of a nested type are equal just if their JSON is.

    Floats are none of those: JSON has neither NaN nor infinity.

    Examples
    --------
    >>> has_exact_text(pl.List(pl.String()))
    True
    >>> has_exact_text(pl.List(pl.Float64()))
    False
    """
    if isinstance(kind, pl.List | pl.Array):
        return _is_exact(kind.inner)
    if isinstance(kind, pl.Struct):
        return all(_is_exact(field.dtype) for field in kind.fields)
    return False


def key_column(schema: Mapping[str, pl.DataType], name: str) -> str:
    """Return the column that has the key `name`: where none is called ``prompt``, a conversation.

    Examples
    --------
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> frame = pl.DataFrame({"messages": [said], "reward": [1.0]})
    >>> key_column(frame.schema, "prompt"), key_column(frame.schema, "reward")
    ('messages', 'reward')
    """
    if name != "prompt" or path_to(schema, name) is not None:
        return name
    return conversation_in(schema) or name


def key_text(value: pl.Expr) -> pl.Expr:
    """Return the JSON of nested values; null where a value is.

    A field that is null and one that is not there are the same, as in Polars.

    Examples
    --------
    >>> frame = pl.DataFrame({"prompt": [[{"role": "user", "content": "2+2="}]]})
    >>> frame.select(key_text(pl.col("prompt"))).item()
    '[{"role":"user","content":"2+2="}]'
    """
    # Only a struct has JSON: one of a field without a name, which is then cut off.
    text = pl.struct(value.alias("")).struct.json_encode()
    cut = text.str.strip_prefix('{"":').str.strip_suffix("}")
    return pl.when(value.is_not_null()).then(cut)


def _is_exact(kind: object) -> bool:
    if isinstance(kind, EXACT):
        return True
    return (isinstance(kind, pl.DataType) and kind.is_integer()) or has_exact_text(kind)
