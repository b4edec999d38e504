"""Chat messages as turns: who says what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gspo_rs.data.messages import ROLES

__all__ = ["Turn", "as_one_text", "said"]


class Turn(NamedTuple):
    """What one role says."""

    role: str
    content: str


def said(messages: Sequence[Mapping[str, Any]] | None) -> tuple[Turn, ...] | None:
    """Return messages as turns; what is said and is no text, as JSON.

    Examples
    --------
    >>> said([{"role": "user", "content": "2+2="}, {"role": "tool", "content": [4]}])
    (Turn(role='user', content='2+2='), Turn(role='tool', content='[4]'))
    """
    if messages is None:
        return None
    return tuple(_turn(message) for message in messages if message is not None)


def as_one_text(turns: Sequence[Turn] | None) -> str | None:
    """Return all that is said, without roles."""
    return None if turns is None else "\n".join(turn.content for turn in turns)


def _turn(message: Mapping[str, Any]) -> Turn:
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    names = ("role", "content", "from", "value")
    # Calls of tools stand beside what is said.
    others = {key: value for key, value in message.items() if key not in names and value}
    parts = [content] if isinstance(content, str) else [_json(content)] * bool(content)
    parts += [_json(others)] * bool(others)
    return Turn(ROLES.get(str(role), str(role)), "\n".join(part for part in parts if part))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
