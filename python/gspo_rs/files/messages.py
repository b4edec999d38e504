"""Find the columns of prompt and completion, which are text or chat messages."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gspo_rs.data.source import EXPECTED, TEXT, Source

__all__ = ["COMPLETION", "PROMPT", "as_messages", "is_messages", "named", "texts"]

# The names that a column of this kind usually has.
PROMPT = ("prompt",)
COMPLETION = ("completion", "response")


def named(source: Source, given: str | None, usual: Sequence[str], option: str) -> str:
    """Return the column `given`, or the only one of the `usual` names that is there.

    Raises
    ------
    ValueError
        If the column is not there, or none or several of the usual ones are; lists the columns.
    """
    if given is not None:
        source.check([(given, "anything")])
        return given
    schema = source.check([])
    found = [name for name in usual if name in schema]
    if len(found) == 1:
        return found[0]
    if not schema:  # of files of 0 bytes
        raise ValueError(f"{source.name} has no rows")
    problem = f"both {' and '.join(map(repr, found))}" if found else f"no column {usual[0]!r}"
    columns = ", ".join(map(repr, schema))
    raise ValueError(f"{source.name} has {problem}; name it with {option}. It has {columns}")


def texts(
    source: Source, prompt: str | None, completion: str | None, *, chat: bool
) -> list[pl.Expr]:
    """Return the expressions that select prompt and completion, under these names.

    Parameters
    ----------
    source : Source
        What has the columns.
    prompt, completion : str or None
        Their names; found among the usual ones if None.
    chat : bool
        Whether text becomes messages: a prompt what the user says, a completion what the
        assistant answers. Messages stay as they are.

    Raises
    ------
    ValueError
        If a column is missing, or one is text and the other messages without `chat`.
    TypeError
        If a column is neither.
    """
    names = {
        "prompt": named(source, prompt, PROMPT, "--prompt"),
        "completion": named(source, completion, COMPLETION, "--completion"),
    }
    kinds = {part: is_messages(source, name) for part, name in names.items()}
    if not chat and len(set(kinds.values())) > 1:
        messages, text = sorted(names, key=lambda part: not kinds[part])
        problem = f"{names[messages]!r} of {source.name} holds messages, {names[text]!r} text"
        raise ValueError(f"{problem}; make messages of both with --chat")
    if chat:
        roles = {"prompt": "user", "completion": "assistant"}
        return [as_messages(source, name, roles[part]).alias(part) for part, name in names.items()]
    column = source.column
    return [
        (column(name) if kinds[part] else column(name).cast(pl.String)).alias(part)
        for part, name in names.items()
    ]


def as_messages(source: Source, name: str, role: str) -> pl.Expr:
    """Return a column as messages: text becomes one, said by `role`; a null stays null."""
    if is_messages(source, name):
        return source.column(name)
    content = source.column(name).cast(pl.String)
    message = pl.concat_list(pl.struct(role=pl.lit(role), content=content))
    return pl.when(content.is_not_null()).then(message)


def is_messages(source: Source, name: str) -> bool:
    """Tell messages from text; a column of CSV is text, whatever is in it.

    Raises
    ------
    TypeError
        If it is neither.
    """
    dtype = source.type_of(name)
    if not dtype.is_nested():
        dtype = source.as_text(name)
    if EXPECTED[TEXT](dtype):
        source.check([(name, TEXT)])
        return False
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        fields = {field.name: field.dtype for field in dtype.inner.fields}
        if fields.get("role") == pl.String and "content" in fields:
            return True
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner == pl.String:
        # Says how one row is made of each.
        source.check([(name, TEXT)])
    found = f"column {name!r} of {source.name} is {dtype}"
    raise TypeError(f"{found}; it must be text or a list of messages {{role, content}}")
