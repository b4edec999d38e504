"""Read scored completions from files as whole groups, in any row order and bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from gspo_rs.data.group_index import GroupIndex, index_groups
from gspo_rs.data.group_stream import stream_groups
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.prompt_table import Prompts, prompts
from gspo_rs.data.schema import RolloutSchema, as_names
from gspo_rs.data.source import SourceLike, locate
from gspo_rs.data.turns import turns
from gspo_rs.rollouts.rollouts import Rollouts

__all__ = [
    "Census",
    "GroupIndex",
    "Prompts",
    "index_groups",
    "prompts",
    "rollouts",
    "scan",
    "take_census",
]

# Their names before, which code outside may use.
Census, take_census = GroupIndex, index_groups


def scan(source: SourceLike) -> pl.LazyFrame:
    """Scan files lazily; text files are read once to check them and to infer column types.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Files of one format, recognised by suffix: ``.parquet``, ``.jsonl``, ``.ndjson``, ``.csv``
        or ``.tsv`` (text also as ``.gz`` and ``.zst``), ``.arrow``, ``.ipc`` or ``.feather``.
        Every line of text is checked. Those of a glob come in the order of their names. Anything
        else that Polars can scan (other formats, object stores) is given as a LazyFrame; its rows
        must come in the same order each time that it is collected.

    Returns
    -------
    LazyFrame

    Raises
    ------
    FileNotFoundError
        If a file is not there, or no file matches a glob.
    ValueError
        If the suffixes differ or are not known.

    Examples
    --------
    >>> scan(pl.DataFrame({"reward": [0.5, 1.0]})).collect()["reward"].sum()
    1.5
    """
    return locate(source).frame


@with_known_columns
def rollouts(
    source: SourceLike,
    *,
    by: str | Sequence[str] | None = None,
    prompt: str = "prompt",
    completion: str = "completion",
    reward: str | Sequence[str] = "reward",
    reward_weights: Sequence[float] | None = None,
    old_logprobs: str | None = None,
    prompt_tokens: str | None = None,
    completion_tokens: str | None = None,
    completion_mask: str | None = None,
    truncated: str | None = None,
    reference_rewards: str | None = None,
    rollout_ids: str | None = None,
    batch_groups: int = 64,
    shuffle: bool = False,
    seed: int = 0,
    start: int = 0,
    informative: bool = False,
    spill_directory: str | Path | None = None,
    census: GroupIndex | None = None,
) -> Iterator[Rollouts]:
    """Read scored completions as batches of whole groups.

    Each group comes once with all its rows, in the order in which they lie in the source. Groups
    come in the order of their first rows, or in a random one.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        One row per completion, whose groups may lie anywhere, or one per prompt with lists; see
        `scan` and `gspo_rs.data.nested_source.by_member`.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    prompt, completion : str
        Columns of the texts, or of lists of chat messages. If both name one column, or are not
        there and a column ``messages`` or ``conversations`` is, its last answers are the
        completion and what stands before is the prompt.
    reward : str or sequence of str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion. Several
        are handed on as they are, with their sum.
    reward_weights : sequence of float, optional
        Of the columns in their sum, which leaves out what is unscorable; 1 by default.
    old_logprobs : str, optional
        Column of lists: the log-probability (nats) of each completion token under the policy
        that sampled it. Checked against `completion_tokens` if these are given too; otherwise
        whoever makes the tokens has to see that they are as many.
    prompt_tokens, completion_tokens : str, optional
        Columns of lists of token ids, for a data set that keeps them.
    completion_mask : str, optional
        Column of lists of bools, or of 0 and 1, one for each of `completion_tokens`: whether the
        policy sampled the token, or only read it, such as the answer of a tool.
    truncated : str, optional
        Column that tells which completions were cut off: bools, or reasons to finish, of which
        "length" and "max_tokens" are such.
    reference_rewards : str, optional
        Column of lists: rewards of completions of the starting policy for the same prompt, null or
        NaN for an unscorable one. Where rewards are lists, one list for all of the row.
    rollout_ids : str, optional
        Column that names the rollout of a row, where one gave several sequences: rows of one group
        with one value are of one rollout, and have one reward.
    batch_groups : int
        Groups per batch; the last one may hold fewer.
    shuffle : bool
        Whether groups come in the random order that `seed` gives.
    seed : int
        For `shuffle`. Neither threads nor chunks change the order it gives.
    start : int
        Groups to leave out at the beginning, to go on where a run stopped.
    informative : bool
        Whether groups without signal are left out, as `census` tells, before their rows are read.
    spill_directory : path, optional
        Where rows that are scattered or shuffled are put in order, in a temporary file that no
        crash leaves behind; the system's folder for temporary files by default.
    census : GroupIndex, optional
        What `index_groups` said of this source, to save reading the ids again.

    Returns
    -------
    iterator of Rollouts

    Raises
    ------
    ValueError
        If a column is missing (names near ones), an id, prompt or list is null, a reward is
        infinite (names the row), two rows of one rollout have different rewards (names both), a
        mask has no tokens or is not as long as they are, there is no row, or the source changes
        while it is read. A null completion or list is accepted where the reward is null too.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the disk for the spill is full.

    Notes
    -----
    Two passes. The first reads ids and rewards only and holds O(1) memory a row. The second
    streams the texts: groups whose rows lie side by side come straight from the source; else
    the rows are sorted on disk first. Of Parquet files 128 MiB of rows at a time are in memory,
    and the buffers of `gspo_rs.data.external_sort`; of a LazyFrame and of other formats as much
    as Polars reads ahead, which can be gigabytes.

    Examples
    --------
    >>> frame = pl.DataFrame(
    ...     {
    ...         "prompt": ["2+2=", "3+3=", "2+2="],
    ...         "completion": ["4", "5", "22"],
    ...         "reward": [1, 0, 0],
    ...     }
    ... )
    >>> batch = next(rollouts(frame, by="prompt"))
    >>> batch.completions, batch.offsets, batch.group_ids
    (['4', '22', '5'], array([0, 2, 3]), ['2+2=', '3+3='])
    """
    names = as_names(reward, "reward")
    of_tokens = (old_logprobs, prompt_tokens, completion_tokens, completion_mask, truncated)
    more = (*of_tokens, reference_rewards, rollout_ids)
    located, keys = by_member(
        locate(source),
        by,
        names,
        prompt=prompt,
        completion=completion,
        beside=more,
        once=[reference_rewards] if reference_rewards else [],
    )
    said = turns(located, prompt, completion)
    columns = RolloutSchema(keys, said, names, *more, reward_weights)
    located.check([(name, kind) for _, name, kind in columns.parts()])
    index = census
    if index is None:
        index = index_groups(
            source, by=by, reward=reward, reward_weights=reward_weights, rollout_ids=rollout_ids
        )
    wanted = np.flatnonzero(index.informative) if informative else np.arange(index.n_groups)
    if not 0 <= start <= len(wanted):
        what = " with a signal" if informative else ""
        raise ValueError(f"start is {start}, but {located.name} has {len(wanted)} groups{what}")
    order = wanted if informative else None
    order = np.random.default_rng(seed).permutation(wanted) if shuffle else order
    cuts = stream_groups(
        located,
        columns.expressions(located),
        index.groups,
        range(start, len(wanted)),
        batch_groups=batch_groups,
        order=order,
        directory=spill_directory,
    )
    return (columns.rollouts(cut, located) for cut in cuts)
