"""What an engine of grading is given, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gspo_rs.rewards.workers import Grade

__all__ = ["Engine", "Slice"]


@dataclass(frozen=True)
class Slice:
    """Some rows, in order; all lists have one entry for each.

    Attributes
    ----------
    prompts : list or None
        Texts, or lists of messages; None without a column of them.
    completions : list
        Likewise; none is null.
    columns : dict of str to list
        What else is handed on.
    groups : list of int or None
        The number of the group of each row, from 0 in the slice; None without groups.
    places : list of str
        Where each row is, for errors.
    """

    prompts: list[Any] | None
    completions: list[Any]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    groups: list[int] | None = None
    places: list[str] = field(default_factory=list)


class Engine(Protocol):
    """Grades rows.

    One that has ``resume()`` is told by it, before its first row, that a run before has not ended.

    Attributes
    ----------
    name : str
        Of the reward.
    kind : str
        ``function``, ``model``, ``judge`` or ``pairwise``.
    scorer : str
        Hexadecimal digest of what decides about a reward beside the row: source, options, files.
    whole_groups : bool
        Whether a slice must hold whole groups.
    """

    name: str
    kind: str
    scorer: str
    whole_groups: bool

    def grade(self, rows: Slice) -> Sequence[Grade]:
        """Return what became of each row, in order; what is wrong with a row is in its grade.

        Raises
        ------
        GradingError
            If no row can be graded any more.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
