"""Prompts to sample completions for, with the other columns that the reward function gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.messages import decoded
from gspo_rs.data.source import ANYTHING, SAID, SourceLike, locate
from gspo_rs.data.turns import turn

__all__ = ["Prompts", "prompts"]


@dataclass(frozen=True)
class Prompts:
    """Prompts and their other columns, held in memory.

    Parameters
    ----------
    texts : list of str, length n
        The prompts; or lists of chat messages.
    columns : dict of lists, each of length n
        Further columns by name, for the reward function.

    Examples
    --------
    >>> sums = Prompts(["2+2=", "3+3="], {"answer": ["4", "6"]})
    >>> sums.select([1])
    Prompts(texts=['3+3='], columns={'answer': ['6']})
    """

    texts: list[Any]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> Prompts:
        """Return the prompts `rows`, in that order."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return Prompts([self.texts[row] for row in rows], columns)


@with_known_columns
def prompts(
    source: SourceLike, *, prompt: str = "prompt", columns: Sequence[str] | None = None
) -> Prompts:
    """Read prompts for online training.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Parquet, JSONL or CSV; see `gspo_rs.data.scan`.
    prompt : str
        Column of the texts, or of lists of chat messages, also as JSON in text. If there is none of
        the usual name, a column ``messages`` or ``conversations``, without the answers that end it.
    columns : sequence of str, optional
        Further columns to keep; all of them by default.

    Returns
    -------
    Prompts
        In the order of the rows.

    Raises
    ------
    ValueError
        If a column is missing, a prompt is null, or no messages where others are messages written
        as JSON (both name the row), or there is no row.
    TypeError
        If the prompts are neither text nor messages.
    OSError
        If the source can't be found or read.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"question": ["2+2=", "3+3="], "answer": ["4", "6"]})
    >>> prompts(frame, prompt="question")
    Prompts(texts=['2+2=', '3+3='], columns={'answer': ['4', '6']})
    """
    located = locate(source)
    wanted, said = list(columns or ()), turn(located, "prompt", prompt)
    schema = located.check([(said.name, SAID), *((name, ANYTHING) for name in wanted)])
    others = [name for name in (schema if columns is None else wanted) if name != prompt]
    rows = located.as_written() or located
    # What is said is told by the types, which rows as they are written do not have.
    texts_of = said.said(located).alias(prompt)
    frame = rows.collect([texts_of, *(rows.column(name).alias(name) for name in others)])
    if frame.is_empty():
        raise ValueError(f"{located.name} has no rows, so there is nothing to sample for")
    texts = frame[prompt].alias("prompt")
    if texts.null_count():
        row = texts.is_null().arg_max()
        raise ValueError(f"column {said.name!r} of {located.name} is null at row {row}")
    asked = decoded(rows.objects(texts), f"row {{}} of {located.name}".format)
    return Prompts(asked, {name: rows.objects(frame[name]) for name in others})
