"""Which column holds which field of a rollout, and rollouts built from such columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.messages import decoded
from gspo_rs.data.source import (
    ENDING,
    FLOATS,
    INTEGERS,
    KEY,
    MASK,
    NUMBER,
    NUMBERS,
    SAID,
    Source,
)
from gspo_rs.data.turns import Turn
from gspo_rs.groups.groups import Groups
from gspo_rs.rollouts.rollouts import Ragged, Rollouts, summed

__all__ = ["GroupBatch", "RolloutSchema", "as_keys", "as_names"]

Key = TypeVar("Key")
LISTS = (
    "old_logprobs",
    "prompt_tokens",
    "completion_tokens",
    "completion_mask",
    "reference_rewards",
)
TYPES: Mapping[str, pl.DataType] = {
    NUMBER: pl.Float64(),
    FLOATS: pl.List(pl.Float32),
    INTEGERS: pl.List(pl.Int64),
    MASK: pl.List(pl.Int64),
    NUMBERS: pl.List(pl.Float64),
}


# What samplers say of why a completion ended, in small letters: whether it was cut off.
CUT_OFF: Mapping[str, bool] = {
    **dict.fromkeys(("length", "max_tokens", "model_length", "abort", "content_filter"), True),
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), False),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), False),
}
# Of a conversation whose completion is missing.
_UNANSWERED = "does not end with what the assistant said"


class GroupBatch(NamedTuple):
    """Rows of whole groups, group after group, with their positions in the source."""

    frame: pl.DataFrame
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    place: Callable[[int], str] = "row {}".format


@dataclass(frozen=True)
class RolloutSchema:
    """The names that the parts of a rollout have in a source.

    Inside a `GroupBatch` the columns go by the names of the parts, the keys by key0, key1, … and
    the rewards by reward0, reward1, …; `weights` has one for each of these, or is None.
    """

    by: tuple[str, ...]
    turns: tuple[Turn, Turn]
    rewards: tuple[str, ...]
    old_logprobs: str | None = None
    prompt_tokens: str | None = None
    completion_tokens: str | None = None
    completion_mask: str | None = None
    truncated: str | None = None
    reference_rewards: str | None = None
    rollout_ids: str | None = None
    weights: Sequence[float] | None = None

    @property
    def keys(self) -> list[str]:
        """The names of the key columns inside a `GroupBatch`."""
        return [f"key{i}" for i in range(len(self.by))]

    def parts(self) -> Iterator[tuple[str, str, str]]:
        """Yield the part, the name in the source and the expected type of each column."""
        yield from ((key, name, KEY) for key, name in zip(self.keys, self.by, strict=True))
        yield from ((turn.part, turn.name, SAID) for turn in self.turns)
        yield from ((f"reward{i}", name, NUMBER) for i, name in enumerate(self.rewards))
        for part, kind in (
            ("old_logprobs", FLOATS),
            ("prompt_tokens", INTEGERS),
            ("completion_tokens", INTEGERS),
            ("completion_mask", MASK),
            ("truncated", ENDING),
            ("reference_rewards", NUMBERS),
            ("rollout_ids", KEY),
        ):
            if (name := getattr(self, part)) is not None:
                yield part, name, kind

    def expressions(self, source: Source) -> list[pl.Expr]:
        """Return what selects the parts, each in its one type; keys keep theirs, or are JSON."""
        found = {turn.part: turn.said(source) for turn in self.turns}
        for part, name, kind in self.parts():
            if part not in found:
                column = source.key(name) if kind == KEY else source.column(name)
                found[part] = column.cast(TYPES[kind]) if kind in TYPES else column
        return [found[part].alias(part) for part, _, _ in self.parts()]

    def rollouts(self, cut: GroupBatch, source: Source) -> Rollouts:
        """Convert rows into rollouts.

        Raises
        ------
        ValueError
            If a prompt is null, a completion or list is null though the row has a reward, or a
            list holds a null or a log-probability that is not finite, or it is not known why a
            completion ended, or a mask has another length than the completion's tokens, or is
            neither 0 nor 1, or a list of reference rewards has none, or an infinite one. Names the
            row of `source`.
        """
        cut = cut._replace(place=source.place)
        rewards = summed(
            {
                name: cut.frame[f"reward{i}"].fill_null(np.nan).to_numpy()
                for i, name in enumerate(self.rewards)
            },
            self.weights,
        )
        scored = pl.Series(~np.isnan(rewards["reward"]))
        names = {part: f"column {name!r} of {source.name}" for part, name, _ in self.parts()}
        missing = {"completion": _UNANSWERED} if self.turns[1].cut else {}
        _refuse_nulls(cut, names, scored, missing)
        ragged: dict[str, Any] = {
            part: _ragged(cut, part, names[part]) for part in LISTS if part in cut.frame.columns
        }
        self._check_aligned(cut, ragged, names)
        if "reference_rewards" in ragged:
            problem = f"{names['reference_rewards']} has no number, though the row has a reward,"
            _refuse(cut, _without_number(ragged["reference_rewards"]) & scored, problem)
        rows, members = source.places(cut.rows.astype(np.int64))
        firsts = cut.frame.select(self.keys)[cut.offsets[:-1]]
        return Rollouts(
            offsets=cut.offsets,
            prompts=_said(cut, "prompt"),
            completions=_said(cut, "completion"),
            **rewards,
            group_ids=firsts.to_series().to_list() if len(self.by) == 1 else firsts.rows(),
            **ragged,
            truncated=_cut_off(cut, names) if "truncated" in cut.frame.columns else None,
            source_rows=rows,
            members=members,
            rollout_ids=None
            if self.rollout_ids is None
            else Groups(cut.frame["rollout_ids"]).codes,
        )

    def _check_aligned(
        self, cut: GroupBatch, ragged: dict[str, Any], names: dict[str, str]
    ) -> None:
        for part in ("old_logprobs", "completion_mask"):
            if part in ragged and "completion_tokens" in ragged:
                found, expected = ragged[part].lengths, ragged["completion_tokens"].lengths
                problem = f"{names[part]} has another length than the completion's tokens"
                _refuse(cut, pl.Series(found != expected), problem)


def as_keys(by: str | Sequence[Key]) -> tuple[str | Key, ...]:
    """Return the columns that name a group, refusing none."""
    keys = (by,) if isinstance(by, str) else tuple(by)
    if not keys:
        raise ValueError("`by` names no column; a group needs at least one")
    return keys


def as_names(columns: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names of one or several columns, refusing none and one that is named twice."""
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{what} is {columns!r}; name each column once, and one at least")
    return names


def _said(cut: GroupBatch, part: str) -> list[Any]:
    """Return texts or messages; what is null is an empty one."""
    found = decoded(cut.frame[part].to_list(), lambda row: cut.place(int(cut.rows[row])))
    empty: Any = "" if all(isinstance(one, str | None) for one in found) else []
    return [empty if one is None else one for one in found]


def _refuse(cut: GroupBatch, wrong: pl.Series, problem: str) -> None:
    """Raise with the number of the first wrong row, if there is one."""
    if wrong.any():
        row = int(cut.rows[int(np.argmax(wrong.fill_null(value=False).to_numpy()))])
        raise ValueError(f"{problem} at {cut.place(row)}")


def _refuse_nulls(
    cut: GroupBatch, names: Mapping[str, str], scored: pl.Series, missing: Mapping[str, str]
) -> None:
    """Raise for what no row may lack, and for what none with a reward may lack."""
    for part in cut.frame.columns:
        if part in ("prompt", "rollout_ids"):
            _refuse(cut, cut.frame[part].is_null(), f"{names[part]} is null")
    for part in cut.frame.columns:
        if part in ("completion", *LISTS, "truncated"):
            wrong = cut.frame[part].is_null() & scored
            problem = f"{names[part]} {missing.get(part, 'is null')}, though it has a reward,"
            _refuse(cut, wrong, problem)


def _without_number(lists: Ragged) -> pl.Series:
    rows = np.repeat(np.arange(len(lists)), lists.lengths)
    return pl.Series(np.bincount(rows, ~np.isnan(lists.values), minlength=len(lists)) == 0)


def _cut_off(cut: GroupBatch, names: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return which completions were cut off; one without a word, and so without a reward, was."""
    given = cut.frame["truncated"]
    if given.dtype != pl.Boolean:
        reasons = given.cast(pl.String)
        for reason in reasons.drop_nulls().unique(maintain_order=True):
            problem = f"{names['truncated']} is {reason!r}, none of {', '.join(CUT_OFF)},"
            if reason.lower() not in CUT_OFF:
                _refuse(cut, (reasons == reason).fill_null(False), problem)
        given = reasons.str.to_lowercase().replace_strict(CUT_OFF, return_dtype=pl.Boolean)
    return given.fill_null(True).to_numpy().astype(np.bool_)


def _ragged(cut: GroupBatch, part: str, name: str) -> Ragged:
    """Join the lists of a column; a null list is an empty one."""
    lists = cut.frame[part]
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    values = lists.filter(pl.Series(lengths > 0)).explode()
    if part == "reference_rewards":  # of which some may be unscorable
        values = values.fill_null(np.nan)
        wrong = values.is_infinite()
    elif part == "old_logprobs":
        wrong = ~values.is_finite().fill_null(False)
    else:
        wrong = values.is_null()
    if part == "completion_mask":
        wrong |= ~values.is_in([0, 1])
    if wrong.any():
        place = wrong.to_list().index(True)
        row = cut.rows[np.searchsorted(np.cumsum(lengths), place, side="right")]
        raise ValueError(f"{name} holds {values[place]} at {cut.place(int(row))}")
    kind = np.bool_ if part == "completion_mask" else values.to_numpy().dtype
    return Ragged(values.to_numpy().astype(kind), lengths)
