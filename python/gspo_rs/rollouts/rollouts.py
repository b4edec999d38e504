"""Scored completions in whole groups: the value that samplers, data and trainers exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gspo_rs.groups.batch_estimators import weighted_sum
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.sequences import Sequences, sequences_of

__all__ = ["Ragged", "Rollouts", "joined", "summed"]

# Fields that say where rollouts are from, which nothing is computed from.
_NAMES = ("group_ids", "source_rows", "members")


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, one after the other in one array.

    Parameters
    ----------
    values : ndarray, shape (total,)
        The rows, joined: int64 tokens, float32 log-probabilities, float64 rewards or bools.
    lengths : ndarray of int64, shape (n,)
        The length of each row; they add up to ``total``.

    Raises
    ------
    ValueError
        If `lengths` do not cut `values` into rows.

    Examples
    --------
    >>> tokens = Ragged.from_rows([[5, 6, 7], [], [8]], np.int64)
    >>> tokens.row(2), tokens.rows([2, 0]).lengths
    (array([8]), array([1, 3]))
    """

    values: NDArray[Any]
    lengths: NDArray[np.int64]

    def __post_init__(self) -> None:
        total = int(self.lengths.sum())
        if self.values.shape != (total,) or (self.lengths < 0).any():
            message = f"lengths that add up to {total} do not cut values of shape"
            raise ValueError(f"{message} {self.values.shape} into rows")

    @classmethod
    def from_rows(cls, rows: Sequence[ArrayLike], dtype: DTypeLike) -> Ragged:
        """Join `rows`, each of shape (length,), into one array of `dtype`."""
        arrays = [np.asarray(row, dtype=dtype) for row in rows]
        lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        return cls(np.concatenate([np.empty(0, dtype), *arrays]), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``; shape (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def row(self, index: int) -> NDArray[Any]:
        """Return row `index`, a view of shape (lengths[index],)."""
        index = range(len(self))[index]
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def rows(self, indices: ArrayLike) -> Ragged:
        """Return the rows `indices`, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[indices]
        return Ragged(self.values[joined_ranges(self.offsets[indices], lengths)], lengths)

    def where(self, mask: Ragged | None) -> Ragged:
        """Return each row without the values at which `mask`, of the same lengths, is False.

        Examples
        --------
        >>> mask = Ragged.from_rows([[True, False], [True]], np.bool_)
        >>> Ragged.from_rows([[5, 6], [7]], np.int64).where(mask)
        Ragged(values=array([5, 7]), lengths=array([1, 1]))
        """
        if mask is None:
            return self
        owner = np.repeat(np.arange(len(self)), self.lengths)
        counts = np.bincount(owner[mask.values], minlength=len(self)).astype(np.int64)
        return Ragged(self.values[mask.values], counts)


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Prompts with a completion and a reward each, group after group.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_groups + 1,)
        Group ``g`` owns the rows ``offsets[g]:offsets[g + 1]``. Rises strictly from 0 to ``n``.
    prompts, completions : list of str, length n
        The texts, a prompt again for each of its completions; or lists of chat messages.
    reward : ndarray of float64, shape (n,)
        Higher is better, unitless. NaN where the completion could not be scored.
    prompt_tokens, completion_tokens : Ragged of int64, n rows, optional
        The texts as the policy read and wrote them, a sampled end-of-sequence token included.
    completion_mask : Ragged of bool, n rows, optional
        True where the policy sampled the token of a completion, False where it only read it, such
        as the answer of a tool; all were sampled where there is none.
    rollout_ids : ndarray of int64, shape (n,), optional
        Where one rollout gave several sequences, a row each: rows of one group with one number are
        of one rollout. They have one reward, which counts once.
    sampler_logprobs : Ragged of float32, n rows, optional
        Log-probability (nats) of each completion token under the policy that sampled it, at the
        sampling temperature.
    old_logprobs : Ragged of float32, n rows, optional
        The same as a data set gives it; without `completion_tokens` where the texts are yet to be
        made into tokens, which then have to be as many.
    policy_versions : Ragged of int64, n rows, optional
        Of each completion token, the number of updates of the policy that drew it. Without it all
        tokens are of one version, which the sampler was given last.
    truncated : ndarray of bool, shape (n,), optional
        True where a completion was cut off by the token limit.
    reference_rewards : Ragged of float64, n rows, optional
        Rewards of completions of the starting policy for the same prompt; NaN as in `reward`.
    group_ids : sequence, length n_groups, optional
        The key of each group; a tuple where several columns are the key.
    rewards : mapping of str to ndarray of float64, each of shape (n,), optional
        Where there are several, each by its name; `reward` is their weighted sum.
    extra : mapping of str to list of length n, optional
        Further columns that are recorded with the completions, by name: bools, floats or texts,
        None where there is none.
    source_rows : ndarray of int64, shape (n,), optional
        Where each row stood in its source.
    members : ndarray of int64, shape (n,), optional
        Its place in that row, where a row of the source has lists.

    Raises
    ------
    ValueError
        If a field does not have one entry for each row (or group), or log-probabilities, masks and
        versions do not have one value for each completion token.
    TypeError
        If a mask is not of bools, or `rollout_ids` are not integers.

    Examples
    --------
    >>> rollouts = Rollouts(
    ...     offsets=np.array([0, 2, 3]),
    ...     prompts=["2+2=", "2+2=", "3+3="],
    ...     completions=["4", "5", "6"],
    ...     reward=np.array([1.0, 0.0, 1.0]),
    ... )
    >>> rollouts.n_rollouts, rollouts.n_groups
    (3, 2)
    >>> rollouts.select([1]).completions
    ['6']
    >>> rollouts.place(2)
    'row 2 of the batch, group 1'
    """

    offsets: NDArray[np.int64]
    prompts: list[Any]
    completions: list[Any]
    reward: NDArray[np.float64]
    prompt_tokens: Ragged | None = None
    completion_tokens: Ragged | None = None
    sampler_logprobs: Ragged | None = None
    old_logprobs: Ragged | None = None
    truncated: NDArray[np.bool_] | None = None
    reference_rewards: Ragged | None = None
    group_ids: Sequence[Any] | None = None
    rewards: Mapping[str, NDArray[np.float64]] | None = None
    source_rows: NDArray[np.int64] | None = None
    members: NDArray[np.int64] | None = None
    completion_mask: Ragged | None = None
    rollout_ids: NDArray[np.int64] | None = None
    extra: Mapping[str, list[Any]] | None = None
    policy_versions: Ragged | None = None

    def __post_init__(self) -> None:
        steps = np.diff(self.offsets)
        if len(self.offsets) == 0 or self.offsets[0] != 0 or (steps <= 0).any():
            raise ValueError("offsets must rise strictly from 0, one step per group")
        present = self._present()
        for field in ("rewards", "extra"):
            for name, column in present.pop(field, {}).items():
                present[f"{field}[{name!r}]"] = column
        for name, entries in present.items():
            expected = self.n_groups if name == "group_ids" else self.n_rollouts
            if len(entries) != expected:
                raise ValueError(f"{name} has {len(entries)} entries, expected {expected}")
        for name in ("sampler_logprobs", "completion_mask", "policy_versions"):
            if getattr(self, name) is not None and self.completion_tokens is None:
                raise ValueError(f"{name} belong to completion_tokens, which are missing")
        for name in ("sampler_logprobs", "old_logprobs", "completion_mask", "policy_versions"):
            self._check_aligned(name, getattr(self, name))
        if self.completion_mask is not None and self.completion_mask.values.dtype != np.bool_:
            kind = self.completion_mask.values.dtype
            raise TypeError(f"completion_mask holds {kind}; give bools, True where it was sampled")
        if self.rollout_ids is not None and self.rollout_ids.dtype.kind not in "iu":
            raise TypeError(f"rollout_ids hold {self.rollout_ids.dtype}; give integers")

    @property
    def n_rollouts(self) -> int:
        """The number of rows."""
        return int(self.offsets[-1])

    @property
    def n_groups(self) -> int:
        """The number of groups."""
        return len(self.offsets) - 1

    @cached_property
    def sequences(self) -> Sequences:
        """Which rows are sequences of one rollout; checked to have one reward.

        Raises
        ------
        ValueError
            If two have different rewards; names their rows.
        """
        found = sequences_of(Groups.from_offsets(self.offsets), self.rollout_ids)
        for column in [self.reward, *(self.rewards or {}).values()]:
            found.refuse_differing(column, self.place)
        return found

    @property
    def sampled_lengths(self) -> NDArray[np.int64]:
        """Tokens of each completion that the policy sampled; shape (n,)."""
        assert self.completion_tokens is not None
        return self.completion_tokens.where(self.completion_mask).lengths

    def place(self, row: int) -> str:
        """Name a row for an error: where it stood, and its group."""
        group = int(np.searchsorted(self.offsets, row, "right")) - 1
        key = group if self.group_ids is None else self.group_ids[group]
        here = f"row {row} of the batch"
        there = here if self.source_rows is None else f"row {self.source_rows[row]}"
        if self.members is not None:
            there += f", member {self.members[row]}"
        return f"{there}, group {key!r}"

    def select(self, groups: ArrayLike) -> Rollouts:
        """Return some of the groups, whole.

        Parameters
        ----------
        groups : array_like of int, shape (m,), or of bool, shape (n_groups,)
            The groups wanted, in the order wanted, or True for each of them.

        Returns
        -------
        Rollouts
            With ``m`` groups; every field that is there has been cut alike.
        """
        groups = np.asarray(groups)
        wanted = np.arange(self.n_groups)[groups if groups.size else []]
        sizes = np.diff(self.offsets)[wanted]
        rows = joined_ranges(self.offsets[wanted], sizes)
        cut: dict[str, Any] = {"offsets": np.concatenate([[0], np.cumsum(sizes)])}
        for name, entries in self._present().items():
            kept = wanted if name == "group_ids" else rows
            cut[name] = _taken(entries, kept)
        return Rollouts(**cut)

    def _present(self) -> dict[str, Any]:
        """Every field but `offsets` that is not None."""
        names = [field.name for field in fields(self) if field.name != "offsets"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _check_aligned(self, name: str, values: Ragged | None) -> None:
        if values is None or self.completion_tokens is None:
            return
        differ = np.flatnonzero(values.lengths != self.completion_tokens.lengths)
        if differ.size:
            row = int(differ[0])
            found, expected = values.lengths[row], self.completion_tokens.lengths[row]
            raise ValueError(f"{name} of row {row} has {found} values for {expected} tokens")


def summed(
    rewards: Mapping[str, NDArray[np.float64]], weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return the fields `reward` and `rewards` of rollouts.

    Parameters
    ----------
    rewards : mapping of str to ndarray of float64, each of shape (n,)
        One or more, by name; NaN where there is none.
    weights : sequence of float, one per reward, optional
        1 by default.

    Returns
    -------
    dict
        A single reward without a weight stays the array that it is, and is not one of several.

    Raises
    ------
    ValueError
        If there are fewer or more weights than rewards, or a sum leaves the range of float64.

    Examples
    --------
    >>> right, short = np.array([1.0, 0.0, np.nan]), np.array([0.5, np.nan, np.nan])
    >>> summed({"right": right, "short": short}, [1.0, 2.0])["reward"]
    array([ 2.,  0., nan])
    """
    columns = list(rewards.values())
    if len(columns) == 1 and weights is None:
        return {"reward": columns[0]}
    return {"reward": weighted_sum(columns, weights), "rewards": dict(rewards)}


def joined(parts: Sequence[Rollouts]) -> Rollouts:
    """Put rollouts together, group after group.

    Parameters
    ----------
    parts : sequence of Rollouts
        One at least.

    Returns
    -------
    Rollouts
        Names of groups and rows are there where all parts have them. A part without
        `completion_mask` has sampled all of its tokens, one without a column of `extra` has None.

    Raises
    ------
    ValueError
        If another field is there in some parts and not in others.

    Examples
    --------
    >>> texts = {"prompts": ["p"], "completions": ["c"]}
    >>> one = Rollouts(offsets=np.array([0, 1]), reward=np.array([0.5]), **texts)
    >>> joined([one, one]).offsets, joined([one, one]).reward
    (array([0, 1, 2]), array([0.5, 0.5]))
    """
    if len(parts) == 1:
        return parts[0]
    if any(part.completion_mask is not None for part in parts):
        parts = [_masked(part) for part in parts]
    named = dict.fromkeys(name for part in parts for name in part.extra or {})
    if named:
        parts = [_with_extra(part, named) for part in parts]
    sizes = [np.diff(part.offsets) for part in parts]
    every = [part._present() for part in parts]
    found: dict[str, Any] = {"offsets": np.concatenate([[0], np.cumsum(np.concatenate(sizes))])}
    for name in sorted({name for present in every for name in present}):
        entries = [present[name] for present in every if name in present]
        if len(entries) == len(parts):
            found[name] = _together(entries)
        elif name not in _NAMES:
            raise ValueError(f"{name} is there in {len(entries)} of {len(parts)} parts; give all")
    return Rollouts(**found)


def _masked(rollouts: Rollouts) -> Rollouts:
    """Return rollouts with a mask, of all tokens where they have none."""
    if rollouts.completion_mask is not None or rollouts.completion_tokens is None:
        return rollouts
    lengths = rollouts.completion_tokens.lengths
    return replace(rollouts, completion_mask=Ragged(np.ones(int(lengths.sum()), np.bool_), lengths))


def _with_extra(rollouts: Rollouts, names: Iterable[str]) -> Rollouts:
    """Return rollouts with these further columns, of None where they have none of the name."""
    found, nothing = rollouts.extra or {}, [None] * rollouts.n_rollouts
    return replace(rollouts, extra={name: found.get(name, nothing) for name in names})


def joined_ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``range(start, start + size)`` for each pair, joined.

    Examples
    --------
    >>> joined_ranges(np.array([7, 0]), np.array([2, 3]))
    array([7, 8, 0, 1, 2])
    """
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()), dtype=np.int64)


def _together(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Ragged):
        values = np.concatenate([part.values for part in parts])
        return Ragged(values, np.concatenate([part.lengths for part in parts]))
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, Mapping):
        return {name: _together([part[name] for part in parts]) for name in first}
    return [entry for part in parts for entry in part]


def _taken(entries: Any, indices: NDArray[np.int64]) -> Any:
    if isinstance(entries, Ragged):
        return entries.rows(indices)
    if isinstance(entries, np.ndarray):
        return entries[indices]
    if isinstance(entries, Mapping):
        return {name: _taken(column, indices) for name, column in entries.items()}
    return [entries[index] for index in indices]
