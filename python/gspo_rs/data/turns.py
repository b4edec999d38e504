"""Which column says the prompt and which the completion: two columns, or one conversation."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from gspo_rs.data.column_names import path_to
from gspo_rs.data.messages import before_answer, conversation_in, is_messages, last_answer
from gspo_rs.data.source import ANYTHING, Source

__all__ = ["Turn", "cut_both", "turn", "turns"]


class Turn(NamedTuple):
    """A column that says the prompt or the completion; `cut` where it is a whole conversation."""

    part: str
    name: str
    cut: bool = False

    def said(self, source: Source) -> pl.Expr:
        """Return what is said, as text or as messages {role, content}.

        Of a conversation the messages of the assistant that end it are the completion, and null
        where none does; those before are the prompt.
        """
        found = source.said(self.name)
        if self.cut:
            found = before_answer(found) if self.part == "prompt" else last_answer(found)
        return found.alias(self.part)


def turns(source: Source, prompt: str, completion: str) -> tuple[Turn, Turn]:
    """Return the columns of prompt and completion.

    Parameters
    ----------
    source : Source
    prompt, completion : str
        Their names. One that is the usual name and not there is cut out of a conversation, and so
        are both if they are the same.

    Raises
    ------
    TypeError
        If both are one column that is no conversation.

    Examples
    --------
    >>> from gspo_rs.data.source import locate
    >>> said = [{"role": "user", "content": "2+2="}, {"role": "assistant", "content": "4"}]
    >>> source = locate(pl.DataFrame({"messages": [said]}))
    >>> turns(source, "prompt", "completion")[1]
    Turn(part='completion', name='messages', cut=True)
    """
    both = turn(source, "prompt", prompt), turn(source, "completion", completion)
    return cut_both(source, both) if both[0].name == both[1].name else both


def turn(source: Source, part: str, name: str) -> Turn:
    """Return the column `name`, or if that is the usual one and not there, a conversation."""
    schema = source.check([])
    conversation = conversation_in(schema)
    if name == part and conversation and path_to(schema, name) is None:
        return Turn(part, conversation, cut=True)
    return Turn(part, name)


def cut_both(source: Source, found: tuple[Turn, Turn]) -> tuple[Turn, Turn]:
    """Return prompt and completion as parts of their one column.

    Raises
    ------
    TypeError
        If it holds no conversations.
    """
    name = found[0].name
    source.check([(name, ANYTHING)])
    if not is_messages(source.type_of(name)):
        raise TypeError(
            f"column {name!r} of {source.name} is {source.type_of(name)}; one column has both "
            "prompt and completion only where it holds conversations, lists of {role, content}"
        )
    return found[0]._replace(cut=True), found[1]._replace(cut=True)
