"""Tables of the page: by task and by model, and two sources side by side."""

from __future__ import annotations

from collections.abc import Sequence

from gspo_rs.report.breakdown import Part
from gspo_rs.report.duplicates import Copies
from gspo_rs.report.facts import Facts
from gspo_rs.report.figures import Table
from gspo_rs.report.format import cut, number, share
from gspo_rs.report.lengths import Lengths
from gspo_rs.report.versus import Moved

__all__ = ["ROWS", "by_value", "moved", "side_by_side"]

# Values of a column that get a line.
ROWS = 60


def by_value(parts: Sequence[Part], column: str) -> Table:
    """Return a line for each value of a column, of at most `ROWS`."""
    right = any(part.right is not None for part in parts)
    long = any(part.length is not None for part in parts)
    head = [cut(column), "rollouts", "groups", "with a signal", "no reward", "mean reward"]
    head += ["right"] * right + ["mean length"] * long
    rows = []
    for part in parts[:ROWS]:
        row = [
            cut(part.name),
            f"{part.n_rollouts:,}",
            f"{part.n_groups:,}",
            share(part.n_informative, part.n_groups),
            share(part.n_rollouts - part.n_scored, part.n_rollouts),
            _known(part.mean),
        ]
        row += ["n/a" if part.right is None else share(part.right, 1)] * right
        row += [_known(part.length)] * long
        rows.append(row)
    return Table(head, rows)


def side_by_side(
    here: tuple[Facts, Copies | None, Lengths | None],
    there: tuple[Facts, Copies | None, Lengths | None],
    names: tuple[str, str],
) -> Table:
    """Return the same numbers of two sources beside each other."""
    rows = [
        (what, one, other)
        for (what, one), (_, other) in zip(_numbers(*here), _numbers(*there), strict=True)
    ]
    return Table(("", *map(cut, names)), rows)


def moved(groups: Sequence[Moved], names: tuple[str, str]) -> Table:
    """Return groups with their mean reward in two sources."""
    rows = [
        (cut(one.key), number(one.mean), number(one.before), f"{one.mean - one.before:+.3g}")
        for one in groups
    ]
    return Table(("group", *map(cut, names), "difference"), rows)


def _numbers(facts: Facts, copies: Copies | None, lengths: Lengths | None) -> list[tuple[str, str]]:
    right = facts.n_equal_right
    wrong = None if right is None else facts.n_equal - right
    return [
        ("rollouts", f"{facts.n_rollouts:,}"),
        ("groups", f"{facts.n_groups:,}"),
        ("mean reward", number(facts.mean)),
        ("median reward", number(facts.quantiles[2])),
        ("groups with a signal", share(facts.n_informative, facts.n_groups)),
        ("groups all right", "n/a" if right is None else share(right, facts.n_groups)),
        ("groups all wrong", "n/a" if wrong is None else share(wrong, facts.n_groups)),
        ("variance within groups", share(facts.spread.within, facts.spread.total)),
        ("tied pairs", share(facts.tied_pairs, facts.n_pairs)),
        ("no reward", share(facts.n_unscorable, facts.n_rollouts)),
        ("copies", "n/a" if copies is None else share(copies.n_copies, copies.n_completions)),
        ("median length", "n/a" if lengths is None else number(lengths.quantiles[2])),
    ]


def _known(value: float | None) -> str:
    return "n/a" if value is None else number(value)
