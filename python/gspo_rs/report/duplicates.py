"""Duplicate completions: copies within a group, and one answer to many prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import percentile, stats
from gspo_rs.report.load import Integers, ReportRows

__all__ = ["Copies", "Repeated", "copies", "repeated"]

# From how many groups on a completion is suspected to answer any prompt, and how many are shown.
MANY = 3
SHOWN = 10


@dataclass(frozen=True)
class Copies:
    """Equal completions inside groups.

    Attributes
    ----------
    n_completions : int
        Rows whose completion is not null.
    n_copies : int
        Those whose completion stands in an earlier row of the group too.
    n_groups : int
        Groups with a copy.
    n_sets, n_contradicted : int
        Completions that stand two or more times in a group, and those of them that got two
        different rewards there.
    contradiction : pair of (int, float), or None
        The first two rows of one group with the same completion and different rewards, and these.
    """

    n_completions: int
    n_copies: int
    n_groups: int
    n_sets: int
    n_contradicted: int
    contradiction: tuple[tuple[int, float], tuple[int, float]] | None


@dataclass(frozen=True)
class Repeated:
    """One completion that occurs in many groups and ranks high there.

    Attributes
    ----------
    row : int
        The first row that has it.
    n_groups, n_rollouts : int
    reward, percentile : float
        Means over its scored rollouts.
    """

    row: int
    n_groups: int
    n_rollouts: int
    reward: float
    percentile: float


def copies(narrow: ReportRows) -> Copies:
    """Count equal completions inside groups; `narrow` has texts."""
    assert narrow.text is not None
    rows = np.flatnonzero(narrow.text >= 0)
    if not len(rows):
        return Copies(0, 0, 0, 0, 0, None)
    found = _pairs(narrow, rows)
    again = rows[found.sizes[found.codes] > 1]
    copied = narrow.groups.codes[again]
    sets = _pairs(narrow, again)
    contradicted = stats(narrow.reward[again], sets).informative
    return Copies(
        n_completions=len(rows),
        n_copies=len(rows) - found.n_groups,
        n_groups=len(np.unique(copied)),
        n_sets=sets.n_groups,
        n_contradicted=int(contradicted.sum()),
        contradiction=_contradiction(narrow, again, sets, contradicted),
    )


def repeated(narrow: ReportRows) -> tuple[int, Sequence[Repeated]]:
    """Find completions that rank high in many groups; `narrow` has texts.

    Returns
    -------
    n : int
        Completions that stand in `MANY` groups or more and beat more than half of the others
        there: a mean percentile above 0.5.
    shown : sequence of Repeated
        Those with the largest product of the number of groups and what the mean percentile
        has above 0.5, at most `SHOWN`.
    """
    assert narrow.text is not None
    rows = np.flatnonzero(narrow.text >= 0)
    if not len(rows):
        return 0, []
    pairs = _pairs(narrow, rows)
    n_texts = int(narrow.text.max()) + 1
    n_groups = np.bincount(narrow.text[rows[pairs.order[pairs.offsets[:-1]]]], minlength=n_texts)
    scored = rows[~np.isnan(narrow.reward[rows])]
    text = narrow.text[scored]
    count = np.bincount(text, minlength=n_texts)
    standing = percentile(narrow.reward, narrow.groups)[scored]
    with np.errstate(invalid="ignore"):
        mean_percentile = np.bincount(text, standing, n_texts) / count
        mean_reward = np.bincount(text, narrow.reward[scored], n_texts) / count
    suspects = np.flatnonzero((n_groups >= MANY) & (mean_percentile > 0.5))
    # What is right in many groups by chance stands near the middle of most.
    wins = n_groups[suspects] * (mean_percentile[suspects] - 0.5)
    order = suspects[np.argsort(-wins, kind="stable")][:SHOWN]
    return len(suspects), [
        Repeated(
            row=int(np.argmax(narrow.text == code)),
            n_groups=int(n_groups[code]),
            n_rollouts=int((narrow.text == code).sum()),
            reward=float(mean_reward[code]),
            percentile=float(mean_percentile[code]),
        )
        for code in order.tolist()
    ]


def _contradiction(
    narrow: ReportRows, rows: Integers, sets: Groups, contradicted: NDArray[np.bool_]
) -> tuple[tuple[int, float], tuple[int, float]] | None:
    """Return the first two scored rows of the first set with two rewards."""
    if not contradicted.any():
        return None
    first = int(np.argmax(contradicted))
    members = rows[sets.order[sets.offsets[first] : sets.offsets[first + 1]]]
    members = members[~np.isnan(narrow.reward[members])]
    reward = narrow.reward[members]
    other = int(np.argmax(reward != reward[0]))
    return (int(members[0]), float(reward[0])), (int(members[other]), float(reward[other]))


def _pairs(narrow: ReportRows, rows: Integers) -> Groups:
    """Put rows of one group with one completion together."""
    assert narrow.text is not None
    return Groups(pl.DataFrame({"group": narrow.groups.codes[rows], "text": narrow.text[rows]}))
