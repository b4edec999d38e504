"""Chat messages: prompts, completions, and conversations that hold both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

__all__ = [
    "CONVERSATIONS",
    "ROLES",
    "as_role_and_content",
    "before_answer",
    "conversation_in",
    "decoded",
    "is_messages",
    "is_sharegpt",
    "last_answer",
    "plain_text",
]

# The names that the column of a whole conversation usually has.
CONVERSATIONS = ("messages", "conversations", "conversation")
# The spelling of ShareGPT, and how it calls two of the roles.
SHAREGPT = {"from": "role", "value": "content"}
ROLES = {"human": "user", "gpt": "assistant"}


def is_messages(kind: pl.DataType | None) -> bool:
    """Tell whether a type is that of messages: {role, content}, or ShareGPT's {from, value}.

    Examples
    --------
    >>> is_messages(pl.DataFrame({"said": [[{"from": "gpt", "value": "4"}]]}).schema["said"])
    True
    """
    return _has(kind, "role", "content") or is_sharegpt(kind)


def conversation_in(schema: Mapping[str, pl.DataType]) -> str | None:
    """Return the only column with a usual name of conversations that holds messages.

    Examples
    --------
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> conversation_in(pl.DataFrame({"messages": [said], "reward": [1.0]}).schema)
    'messages'
    """
    found = [name for name in CONVERSATIONS if is_messages(schema.get(name))]
    return found[0] if len(found) == 1 else None


def is_sharegpt(kind: pl.DataType | None) -> bool:
    """Tell whether a type is that of messages spelled {from, value}."""
    return _has(kind, *SHAREGPT) and not _has(kind, "role", "content")


def _has(kind: pl.DataType | None, role: str, content: str) -> bool:
    if not (isinstance(kind, pl.List | pl.Array) and isinstance(kind.inner, pl.Struct)):
        return False
    fields = {field.name: field.dtype for field in kind.inner.fields}
    return fields.get(role) == pl.String and content in fields


def as_role_and_content(messages: pl.Expr) -> pl.Expr:
    """Return messages spelled {role, content}, with all their other fields.

    Examples
    --------
    >>> frame = pl.DataFrame({"said": [[{"from": "human", "value": "2+2="}]]})
    >>> frame.select(as_role_and_content(pl.col("said"))).item().to_list()
    [{'role': 'user', 'content': '2+2='}]
    """
    return messages.map_batches(_spelled, is_elementwise=True)


def last_answer(conversation: pl.Expr) -> pl.Expr:
    """Return the messages of the assistant that end a conversation; null where none does.

    Examples
    --------
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> frame = pl.DataFrame({"messages": [said]})
    >>> frame.select(last_answer(pl.col("messages"))).item().to_list()
    [{'role': 'assistant', 'content': '4'}]
    """
    return conversation.map_batches(lambda said: _cut(said, last=True), is_elementwise=True)


def before_answer(conversation: pl.Expr) -> pl.Expr:
    """Return a conversation without the messages of the assistant that end it.

    Examples
    --------
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> frame = pl.DataFrame({"messages": [said]})
    >>> frame.select(before_answer(pl.col("messages"))).item().to_list()
    [{'role': 'user', 'content': '2+2='}]
    """
    return conversation.map_batches(lambda said: _cut(said, last=False), is_elementwise=True)


def plain_text(messages: pl.Expr) -> pl.Expr:
    r"""Return messages as one text: what one says, or each with its role before it.

    What is said and is no text, such as an image, is as Polars prints it.

    Examples
    --------
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> frame = pl.DataFrame({"messages": [said, said[1:]]})
    >>> frame.select(plain_text(pl.col("messages"))).to_series().to_list()
    ['user: 2+2=\nassistant: 4', '4']
    """

    def text(message: dict[str, Any]) -> str:
        content = message.get("content")
        return content if isinstance(content, str) else "" if content is None else str(content)

    def texts(values: pl.Series) -> pl.Series:
        found: list[str | None] = []
        for said in _spelled(values).to_list():
            if said is None:
                found.append(None)
            elif len(said) == 1:
                found.append(text(said[0]))
            else:
                found.append("\n".join(f"{one['role']}: {text(one)}" for one in said))
        return pl.Series(found, dtype=pl.String)

    return messages.map_batches(texts, pl.String, is_elementwise=True)


def decoded(said: Sequence[Any], place: Callable[[int], str]) -> list[Any]:
    """Return texts that are messages written as JSON as these messages, all others as they are.

    Parameters
    ----------
    said : sequence of str, of lists of messages, or of None
        A column; its first value tells which.
    place : callable
        Names a value in an error.

    Returns
    -------
    list
        Messages {role, content}, with their other fields.

    Raises
    ------
    ValueError
        If the first are messages, and others are not; names them.

    Examples
    --------
    >>> decoded(['[{"from": "human", "value": "2+2="}]', None], "row {}".format)
    [[{'role': 'user', 'content': '2+2='}], None]
    """
    first = next((one for one in said if one is not None), None)
    if _in_json(first) is None:
        return list(said)
    found = [None if one is None else _in_json(one) for one in said]
    for row, (one, messages) in enumerate(zip(said, found, strict=True)):
        if one is not None and messages is None:
            raise ValueError(
                f"{place(row)}: {one!r:.80} is no list of messages in JSON, as others are; write"
                " all of them as messages, or none"
            )
    return found


def _in_json(text: Any) -> list[dict[str, Any]] | None:
    """Return the messages that a text is in JSON; None if it is none."""
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    spoken = said and all(
        isinstance(one, dict)
        and ({"role", "content"} <= one.keys() or SHAREGPT.keys() <= one.keys())
        for one in said
    )
    return [_renamed(one) for one in said] if spoken else None


def _cut(values: pl.Series, *, last: bool) -> pl.Series:
    """Take the messages of the assistant that end each conversation, or those before them."""
    values = _spelled(values.alias("said"))
    if values.dtype == pl.Binary:
        return _written(values, lambda said: _part(said, last=last))
    others = pl.element().struct.field("role").ne_missing("assistant")
    backwards = pl.col("said").list.eval(others).list.reverse()
    whole = pl.col("said").list.len()
    count = pl.when(backwards.list.any()).then(backwards.list.arg_max()).otherwise(whole)
    frame = values.to_frame().with_columns(count.alias("count"))
    part: pl.Expr = pl.col("said").list.head(whole - pl.col("count"))
    if last:
        part = pl.when(pl.col("count") > 0).then(pl.col("said").list.tail("count"))
    return frame.select(part.alias("said")).to_series()


def _part(said: list[dict[str, Any]], *, last: bool) -> list[dict[str, Any]] | None:
    count = 0
    while count < len(said) and said[len(said) - 1 - count].get("role") == "assistant":
        count += 1
    border = len(said) - count
    if last:
        return said[border:] or None
    return said[:border]


def _spelled(values: pl.Series) -> pl.Series:
    """Return messages with the names {role, content}."""
    name, values = values.name, values.alias("said")
    if values.dtype == pl.Binary:
        return _written(values, lambda said: [_renamed(one) for one in said]).alias(name)
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    kind = values.dtype
    assert isinstance(kind, pl.List)
    assert isinstance(kind.inner, pl.Struct)
    fields = [field.name for field in kind.inner.fields]
    if "role" in fields:
        return values.alias(name)
    said = pl.element().struct
    role = said.field("from").replace(ROLES).alias("role")
    others = [said.field(field).alias(SHAREGPT.get(field, field)) for field in fields]
    others[fields.index("from")] = role
    message = pl.when(pl.element().is_not_null()).then(pl.struct(others))
    return values.to_frame().select(pl.col("said").list.eval(message))["said"].alias(name)


def _renamed(message: dict[str, Any]) -> dict[str, Any]:
    if "role" in message or "from" not in message:
        return message
    found = {SHAREGPT.get(name, name): value for name, value in message.items()}
    return {**found, "role": ROLES.get(found["role"], found["role"])}


def _written(values: pl.Series, change: Callable[[Any], Any]) -> pl.Series:
    """Change messages that are written as JSON; Polars may ask with bytes that are none."""

    def changed(given: bytes | None) -> bytes | None:
        said = json.loads(given) if given else None
        found = None if said is None else change(said)
        return None if found is None else json.dumps(found, ensure_ascii=False).encode()

    return pl.Series(values.name, [changed(given) for given in values], dtype=pl.Binary)
