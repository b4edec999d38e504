"""Example groups and rows whose texts the page shows, gathered by row number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.data.source import Source
from gspo_rs.groups.statistics import GroupStats, percentile
from gspo_rs.report.conversation import Turn, said
from gspo_rs.report.format import cut, visible
from gspo_rs.report.load import Names, ReportRows, windows

__all__ = ["Example", "Excerpt", "Row", "Text", "choose_groups", "gather", "unscorable_rows"]

# Groups of each kind, rows without a reward, and characters at the two ends of a long text.
GROUPS = 3
UNSCORABLE = 5
HEAD, TAIL = 700, 300
# Members of a group that are listed, from both ends, and messages of a conversation.
MEMBERS = 64
TURNS = 8
KINDS = ("best", "divided", "worst")


@dataclass(frozen=True)
class Excerpt:
    """A text, or the two ends of a long one."""

    head: str
    tail: str
    n_chars: int

    def within(self, limit: int) -> Excerpt:
        """Return no more than about `limit` characters, two thirds of them from the start."""
        if len(self.head) + len(self.tail) <= limit:
            return self
        first, last = 2 * limit // 3, limit // 3
        return Excerpt(self.head[:first], (self.tail or self.head)[-last:], self.n_chars)


@dataclass(frozen=True)
class Text:
    """A prompt or a completion: one excerpt without a role, or one for each message.

    `left_out` messages are not shown, those in the middle of a long conversation.
    """

    turns: tuple[tuple[str | None, Excerpt], ...]
    left_out: int = 0


@dataclass(frozen=True)
class Row:
    """What the page shows of one row; a text is None where it is null or has no column."""

    row: int
    group: str
    model: str | None
    reward: float
    percentile: float
    length: float
    prompt: Text | None
    completion: Text | None


@dataclass(frozen=True)
class Example:
    """One group: where it stands, and the row numbers of its highest and lowest reward.

    `members` are rows from the highest to the lowest reward, the unscorable ones last; of more than
    `MEMBERS`, those in the middle are left out.
    """

    group: int
    size: int
    mean: float
    high: int
    low: int
    members: tuple[int, ...]


def choose_groups(narrow: ReportRows, stats: GroupStats) -> Mapping[str, Sequence[Example]]:
    """Choose the groups with the highest mean, the largest deviation (ddof 0) and the lowest mean.

    Returns
    -------
    mapping
        From each of `KINDS` to at most `GROUPS` groups with two or more scored rollouts. Of equal
        ones the larger group comes first, then the one that appears first.
    """
    # Not divided by n - 1, which would put pairs before all larger groups.
    deviation = stats.std * np.sqrt(1 - 1 / np.maximum(stats.scored, 1))
    orders = {
        "best": np.lexsort((-stats.scored, -stats.mean)),
        "divided": np.lexsort((-stats.scored, -deviation)),
        "worst": np.lexsort((-stats.scored, stats.mean)),
    }
    chosen = {}
    for kind in KINDS:
        able = stats.informative if kind == "divided" else stats.scored >= 2
        groups = orders[kind][able[orders[kind]]][:GROUPS]
        chosen[kind] = [_example(narrow, stats, group) for group in groups.tolist()]
    return chosen


def unscorable_rows(narrow: ReportRows) -> Sequence[int]:
    """Return the first rows without a reward."""
    rows: list[int] = np.flatnonzero(np.isnan(narrow.reward))[:UNSCORABLE].tolist()
    return rows


def gather(
    source: Source, names: Names, narrow: ReportRows, rows: Iterable[int]
) -> Mapping[int, Row]:
    """Read the keys and texts of some rows, holding no more of a text than is shown.

    Raises
    ------
    ValueError
        If the source has another number of rows than before.
    OSError
        If it can't be read.
    """
    wanted = sorted(set(rows))
    columns = [source.key(name).alias(f"key{i}") for i, name in enumerate(names.by)]
    texts = {"prompt": names.prompt, "completion": names.completion}
    for part, name in texts.items():
        if name is not None:
            column = source.column(name)
            columns.append((column if part in names.chat else column.cast(pl.String)).alias(part))
    standing = percentile(narrow.reward, narrow.groups)
    found: dict[int, Row] = {}
    start = 0
    for frame in windows(source, columns, len(narrow.reward), "gathering examples"):
        here = [row for row in wanted if start <= row < start + frame.height]
        picked = frame[[row - start for row in here]]
        turns = {part: [said(one) for one in source.objects(picked[part])] for part in names.chat}
        for index, row in enumerate(here):
            values = {
                name: turns[name][index] if name in turns else picked[name][index]
                for name in picked.columns
            }
            found[row] = _row(row, values, narrow, float(standing[row]))
        start += frame.height
    return found


def _example(narrow: ReportRows, stats: GroupStats, group: int) -> Example:
    offsets = narrow.groups.offsets
    rows = narrow.groups.order[offsets[group] : offsets[group + 1]]
    reward = narrow.reward[rows]
    return Example(
        group=group,
        size=int(stats.size[group]),
        mean=float(stats.mean[group]),
        high=int(rows[np.nanargmax(reward)]),
        low=int(rows[np.nanargmin(reward)]),
        members=_ends(rows[np.argsort(-reward, kind="stable")].tolist()),
    )


def _ends(rows: Sequence[int]) -> tuple[int, ...]:
    half = MEMBERS // 2
    return tuple(rows) if len(rows) <= MEMBERS else (*rows[:half], *rows[-half:])


def _row(row: int, values: Mapping[str, object], narrow: ReportRows, percentile: float) -> Row:
    keys = [value for name, value in values.items() if name.startswith("key")]
    return Row(
        row=row,
        group=cut(" · ".join(map(str, keys))),
        model=None if narrow.model is None else cut(narrow.models[narrow.model[row]]),
        reward=float(narrow.reward[row]),
        percentile=percentile,
        length=float("nan") if narrow.length is None else float(narrow.length[row]),
        prompt=_text(values.get("prompt")),
        completion=_text(values.get("completion")),
    )


def _text(value: object) -> Text | None:
    if isinstance(value, str):
        return Text(((None, _excerpt(value)),))
    if not isinstance(value, tuple):
        return None
    turns: list[Turn] = list(value)
    half = TURNS // 2
    shown = turns if len(turns) <= TURNS else [*turns[:half], *turns[-half:]]
    parts = tuple((cut(turn.role), _excerpt(turn.content)) for turn in shown)
    return Text(parts, len(turns) - len(shown))


def _excerpt(text: str) -> Excerpt:
    if len(text) <= HEAD + TAIL + 100:
        return Excerpt(visible(text), "", len(text))
    return Excerpt(visible(text[:HEAD]), visible(text[-TAIL:]), len(text))
