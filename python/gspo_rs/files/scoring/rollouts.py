"""Rows that are sequences of one rollout: its reward counts once, and each row gets its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from gspo_rs._core import Scores
from gspo_rs.files.scoring.first_pass import ROW_COLUMNS, Tally, compute, narrow_columns
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.scoring.options import Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.groups.advantages import columns_and_advantage
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.sequences import sequences_of

__all__ = ["tallied"]


def tallied(
    inputs: list[Input], options: Options, scores: Sequence[Scores], progress: Progress
) -> Tally:
    """Compute every group by each estimator, of rows or of rollouts, and count them once."""
    progress.begin("scoring", len(scores) * scores[0].n_rows)
    if options.rollouts is None:
        return compute(scores, options, progress)
    return _of_rollouts(inputs, options, scores)


def _of_rollouts(inputs: list[Input], options: Options, scores: Sequence[Scores]) -> Tally:
    """Compute every group of rollouts by each estimator, and count them once.

    Parameters
    ----------
    inputs : list of Input
        Whose ids of rollouts are read, with those of the groups.
    options : Options
        With `rollouts`.
    scores : sequence of Scores
        Of each estimator, that have read ids and rewards of all rows.

    Returns
    -------
    Tally

    Raises
    ------
    ValueError
        If two rows of a rollout have different rewards (names both), the id of one is null, or a
        file has changed since it was read.
    MemoryError
        If ids and rewards do not fit the memory limit.
    """
    first = scores[0]
    if first.spilled:
        needed = (200 * first.n_rows >> 20) + 256
        raise MemoryError(f"rollouts need all ids at once; raise memory_limit to {needed}MiB")
    frames = [_ids(given, options) for given in inputs]
    ends = np.cumsum([frame.height for frame in frames])
    ids = pl.concat(frames, how="vertical_relaxed")
    if ids.height != first.n_rows:
        raise ValueError(f"{inputs[0].source.name} changed while it was scored; start again")
    # As the rewards come: group after group by first rows, and in a group in the order of rows.
    order = Groups(ids.drop("rollout")).order
    rollouts = ids["rollout"].gather(order)

    def place(row: int) -> str:
        row = int(order[row])
        file = int(np.searchsorted(ends, row, "right"))
        source = inputs[file].source
        return f"{source.place(row - int(ends[file]) + frames[file].height)} of {source.name}"

    pairs = zip(scores, options.estimators.items(), strict=True)
    tally, *_ = [_computed(one, rollouts, place, *estimator) for one, estimator in pairs]
    return tally


def _computed(
    scores: Scores,
    rollouts: pl.Series,
    place: Callable[[int], str],
    estimator: str,
    estimator_options: Mapping[str, Any],
) -> Tally:
    taken = scores.take(max(scores.n_rows, 1))
    assert taken is not None
    rewards, offsets = taken
    groups = Groups.from_offsets(offsets)
    found = sequences_of(groups, rollouts)
    found.refuse_differing(rewards, place)
    columns = columns_and_advantage(
        rewards[found.firsts], found.groups, ROW_COLUMNS, estimator, estimator_options
    )
    rank, mean, std, gain = map(found.spread, columns)
    again = np.ones(len(rewards), dtype=np.bool_)
    again[found.firsts] = False
    uninformative = scores.put((rank, gain, mean, std), None, again)
    scores.settle()
    return Tally(groups.n_groups, uninformative, len(rewards))


def _ids(given: Input, options: Options) -> pl.DataFrame:
    """Read the ids of groups and rollouts of one file."""
    assert options.rollouts is not None
    keys = narrow_columns(given, options)[:-1]
    with given.reading():
        found = given.source.collect([*keys, given.source.key(options.rollouts).alias("rollout")])
    if found["rollout"].null_count():
        row = int(found["rollout"].is_null().arg_max() or 0)
        place = f"{given.source.place(row)} of {given.source.name}"
        raise ValueError(f"column {options.rollouts!r} is null at {place}; a row needs a rollout")
    return found
