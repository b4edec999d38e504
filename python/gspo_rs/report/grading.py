"""What graded the completions: failures, time, scales, agreement of rewards, bias of position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.column_names import column
from gspo_rs.data.source import Source
from gspo_rs.files.grades import GradedSource, Grades
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.report.figures import Table
from gspo_rs.report.format import count, cut, number, share

__all__ = ["Agreement", "about_grader", "agreement"]

# Groups whose pairs are compared, evenly over the rows.
MOST_GROUPS = 5_000
QUANTILES = {"median": 0.5, "95 %": 0.95, "99 %": 0.99, "longest": 1.0}
ADVICE = (
    "A row that failed has no reward: where failures are of long or odd completions, what is"
    " learned is biased. Rewards that disagree teach different things; look at the pairs they"
    " disagree on before adding them up."
)


@dataclass(frozen=True)
class Agreement:
    """How two rewards compare pairs of completions of one group.

    Attributes
    ----------
    n_pairs : int
        Pairs on which both have values.
    n_decided : int
        Those of them that neither calls a tie.
    n_alike : int
        Those of these that both decide alike.
    """

    n_pairs: int
    n_decided: int
    n_alike: int


def about_grader(
    source: Source, groups: Groups
) -> tuple[list[str], list[tuple[str, Table]]] | None:
    """Return notes and titled tables about what graded a source; None if it has no grades."""
    if not isinstance(source, GradedSource):
        return None
    grades = source.origin
    rewards = source.collect([column(name) for name in grades.columns])
    tables = [
        ("What became of the rows", _statuses(grades)),
        ("Seconds a row", _seconds(grades)),
        ("Scale", _scales(grades, rewards)),
    ]
    notes = [ADVICE]
    if len(grades.rewards) > 1:
        found, compared = _agreements(grades, rewards, groups)
        tables.append(("Pairs of a group that two rewards decide alike", found))
        if compared < groups.n_groups:
            notes.append(f"Pairs are those of {compared:,} of {groups.n_groups:,} groups.")
    if judged := _positions(grades):
        tables.append(("What a judge saw first", judged))
        notes.append(
            "A judge without a bias of position prefers what it saw first as often as what it saw"
            " second. Verdicts that turn with the order count as ties."
        )
    return notes, tables


def agreement(one: Floats, other: Floats, groups: Groups, chosen: NDArray[np.int64]) -> Agreement:
    """Compare how two rewards order the pairs of some groups.

    Parameters
    ----------
    one, other : ndarray of float64, shape (n,)
        NaN where there is none.
    groups : Groups
        Of n rows.
    chosen : ndarray of int64
        Numbers of the groups.

    Examples
    --------
    >>> groups = Groups(["a", "a", "a"])
    >>> agreement(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0]), groups, np.array([0]))
    Agreement(n_pairs=3, n_decided=3, n_alike=2)
    """
    pairs = decided = alike = 0
    for group in chosen:
        rows = groups.order[groups.offsets[group] : groups.offsets[group + 1]]
        rows = rows[~np.isnan(one[rows]) & ~np.isnan(other[rows])]
        upper = np.triu_indices(len(rows), 1)
        # Compared, not subtracted: the difference of two large numbers may be infinite.
        signs = [_signs(values[rows], upper) for values in (one, other)]
        both = (signs[0] != 0) & (signs[1] != 0)
        pairs, decided = pairs + len(both), decided + int(both.sum())
        alike += int((both & (signs[0] == signs[1])).sum())
    return Agreement(pairs, decided, alike)


def _signs(values: Floats, pairs: tuple[Any, Any]) -> NDArray[np.int64]:
    first, second = values[pairs[0]], values[pairs[1]]
    found: NDArray[np.int64] = (first > second).astype(np.int64) - (first < second)
    return found


def _statuses(grades: Grades) -> Table:
    """Return a line for all and for each reward, with how many rows have each status."""
    counts = grades.manifest.counts
    every: dict[str, Mapping[str, int]] = {"all": counts["status"], **counts.get("rewards", {})}
    kinds = list(dict.fromkeys(kind for statuses in every.values() for kind in statuses))
    rows = []
    for name, statuses in every.items():
        total = sum(statuses.values())
        cells = [f"{statuses.get(k, 0):,} ({share(statuses.get(k, 0), total)})" for k in kinds]
        rows.append([cut(name), *cells])
    return Table(["reward", *kinds], rows)


def _seconds(grades: Grades) -> Table:
    seconds = pl.col("seconds")
    found = (
        grades.frame()
        .select(
            seconds.sum().alias("in all"),
            *(seconds.quantile(q, "linear").alias(name) for name, q in QUANTILES.items()),
            (pl.col("attempts") > 1).sum().alias("again"),
        )
        .collect(engine="streaming")
    )
    *values, again = found.row(0)
    cells = [number(float(value)) for value in values]
    head = ["", *found.columns[:-1], "rows asked for more than once"]
    return Table(head, [["all", *cells, f"{again:,} ({share(again, grades.n_rows)})"]])


def _scales(grades: Grades, rewards: pl.DataFrame) -> Table:
    head = ["reward", "kind", "weight", "lowest", "median", "highest", "values"]
    head += ["at the lowest", "at the highest", "none"]
    given = {one["name"]: one for one in grades.manifest.asked["rewards"]}
    rows = []
    names = grades.columns if len(grades.rewards) > 1 else grades.columns[1:]
    for name in names:
        values = rewards[name].drop_nulls()
        about = given.get(name.removeprefix("reward_"), {}) if name != "reward" else {}
        shown = [cut(about.get("name", "sum")), about.get("kind", ""), _weight(about)]
        if len(values):
            low, high = (float(end(values.to_numpy())) for end in (np.min, np.max))
            middle = float(np.median(values.to_numpy()))
            shown += [number(low), number(middle), number(high)]
            shown += [f"{values.n_unique():,}"]
            shown += [share(int((values == end).sum()), len(values)) for end in (low, high)]
        else:
            shown += ["n/a"] * 6
        rows.append([*shown, share(rewards.height - len(values), rewards.height)])
    return Table(head, rows)


def _weight(about: Mapping[str, Any]) -> str:
    return number(float(about["weight"])) if "weight" in about else ""


def _agreements(grades: Grades, rewards: pl.DataFrame, groups: Groups) -> tuple[Table, int]:
    """Return a line for each two rewards, and the number of groups that were compared."""
    step = -(-groups.n_groups // MOST_GROUPS)
    chosen = np.arange(0, groups.n_groups, step)
    values = {
        name: rewards[f"reward_{name}"].fill_null(np.nan).to_numpy() for name in grades.rewards
    }
    rows = []
    for one, other in combinations(values, 2):
        found = agreement(values[one], values[other], groups, chosen)
        alike = share(found.n_alike, found.n_decided)
        tied = share(found.n_pairs - found.n_decided, found.n_pairs)
        rows.append([f"{cut(one)} and {cut(other)}", f"{found.n_pairs:,}", alike, tied])
    return Table(["rewards", "pairs", "alike", "a tie for one"], rows), len(chosen)


def _positions(grades: Grades) -> Table | None:
    """Return a line for each reward of comparisons."""
    metrics: Mapping[str, Mapping[str, Sequence[float]]] = grades.manifest.counts.get("metrics", {})
    rows = []
    for name, found in metrics.items():
        if "first" not in found or "second" not in found:
            continue
        first, second, compared, disagree = (
            float(found.get(key, [0.0])[0]) for key in ("first", "second", "compared", "disagree")
        )
        rows.append(
            [
                cut(name),
                count(int(compared), "pair"),
                share(first, first + second),
                share(second, first + second),
                share(disagree, compared),
            ]
        )
    head = ["reward", "compared", "prefers the first", "the second", "turns with the order"]
    return Table(head, rows) if rows else None
