"""Find the columns of prompt and completion, which are text or chat messages."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from gspo_rs.data.messages import conversation_in
from gspo_rs.data.source import EXPECTED, SAID, TEXT, Source
from gspo_rs.data.turns import Turn, cut_both

__all__ = ["COMPLETION", "PROMPT", "as_messages", "is_messages", "named", "texts", "turn"]

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
    found = (
        turn(source, "prompt", prompt, PROMPT, "--prompt"),
        turn(source, "completion", completion, COMPLETION, "--completion"),
    )
    if found[0].name == found[1].name:
        found = cut_both(source, found)
    kinds = {one: is_messages(source, one.name) for one in found}
    if not chat and len(set(kinds.values())) > 1:
        messages, text = sorted(found, key=lambda one: not kinds[one])
        problem = f"{messages.name!r} of {source.name} holds messages, {text.name!r} text"
        raise ValueError(f"{problem}; make messages of both with --chat")
    if not chat:
        return [one.said(source) for one in found]
    roles = {"prompt": "user", "completion": "assistant"}
    return [as_messages(source, one, roles[one.part]) for one in found]


def turn(source: Source, part: str, given: str | None, usual: Sequence[str], option: str) -> Turn:
    """Return the column `given`, or the one of the `usual` names, or a conversation to cut.

    Raises
    ------
    ValueError
        As `named`.
    """
    schema = source.check([])
    conversation = conversation_in(schema)
    if given is None and conversation and not set(usual) & set(schema):
        return Turn(part, conversation, cut=True)
    return Turn(part, named(source, given, usual, option))


def as_messages(source: Source, said: Turn, role: str) -> pl.Expr:
    """Return what is said as messages: text becomes one, said by `role`; a null stays null."""
    if is_messages(source, said.name):
        return said.said(source)
    content = source.column(said.name).cast(pl.String)
    message = pl.concat_list(pl.struct(role=pl.lit(role), content=content))
    return pl.when(content.is_not_null()).then(message).alias(said.part)


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
    if EXPECTED[SAID](dtype):
        return True
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner == pl.String:
        # Says how one row is made of each.
        source.check([(name, TEXT)])
    found = f"column {name!r} of {source.name} is {dtype}"
    raise TypeError(f"{found}; it must be text or a list of messages {{role, content}}")
