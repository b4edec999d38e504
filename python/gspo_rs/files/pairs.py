"""Preference pairs written to a file: prompt, chosen and rejected completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.external_sort import sort_on_disk
from gspo_rs.data.group_index import KeyedRewards, read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.files.filters import filter_rows, parse, refuse_empty
from gspo_rs.files.gather import gather_rows, kept_columns, numbered, refuse_null
from gspo_rs.files.in_memory import frame_without_target
from gspo_rs.files.messages import texts
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames
from gspo_rs.groups.pairs import Strategy, preference_pairs

__all__ = ["pairs"]

COLUMNS = ("prompt", "chosen", "rejected", "margin", "chosen_reward", "rejected_reward")
SIDES = ("chosen", "rejected")


@with_known_columns
@frame_without_target
def pairs(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    strategy: Strategy = "best_worst",
    margin: float = 0.0,
    seed: int = 0,
    columns: Sequence[str] = (),
    keep: str = "all",
    threshold: float | None = None,
    chat: bool = False,
    spill_directory: str | Path | None = None,
    allow_empty: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write pairs of completions of the same prompt for DPO and its relatives.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`. The rows of a group may lie
        anywhere.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``; without one the rows are
        returned.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.
    prompt, completion : str, optional
        Columns of the texts, or of lists of messages; by default ``prompt``, and ``completion``
        or ``response``, whichever is there.
    strategy : {"best_worst", "all", "best_random"}
        See `gspo_rs.preference_pairs`.
    margin : float
        What the chosen reward exceeds the rejected one by, and more. Ties never make a pair.
    seed : int
        For ``"best_random"``.
    columns : sequence of str
        More columns to write, of both rows of a pair: ``chosen_`` and ``rejected_`` and the name.
    keep : str
        Rules of `gspo_rs.files.filters`; rows that they drop make no pair.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    chat : bool
        Whether text becomes lists of messages.
    spill_directory : path, optional
        Where texts are put in order, in a nameless temporary file of about the size of the
        pairs; the system's folder for temporary files by default.
    allow_empty : bool
        Whether the rules may leave nothing to write.
    dry_run : bool
        Whether to read and check, and write nothing.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    WriteSummary or DataFrame

    Raises
    ------
    ValueError
        If a column is missing or ambiguous, a text of a pair is null, the two of a pair have
        different prompts (names their rows), no pair of different completions is left and
        `allow_empty` is off, or as `gspo_rs.preference_pairs`.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the target not written.

    Notes
    -----
    The columns are those of TRL's preference type, ``prompt``, ``chosen`` and ``rejected``, then
    ``margin``, ``chosen_reward`` and ``rejected_reward``, the keys of the group, unless they are
    called as one of these, and `columns`. Pairs come group after group, in the order of
    `gspo_rs.preference_pairs`. A pair of two equal completions, which a grader gave different
    rewards, is left out and counted in the summary.

    Rewards are read first and the pairs found among them (about 40 bytes a row and 48 a pair).
    The texts then stream by once and go through `gspo_rs.data.external_sort`: memory does not
    grow with them.

    Examples
    --------
    >>> rows = {"prompt": ["1+1="] * 3, "response": ["3", "2", "?"], "reward": [0, 1, None]}
    >>> pairs(pl.DataFrame(rows), by="prompt").row(0)
    ('1+1=', '2', '3', 1.0, 1.0, 0.0)
    """
    located, keys = by_member(
        locate(source), by, [reward], prompt=prompt, completion=completion, beside=columns
    )
    path, rules = checked_target(target, located, overwrite=overwrite), parse(keep, threshold)
    said = texts(located, prompt, completion, chat=chat)
    shared, each = _kept(located, keys, columns)
    narrow = read_keys(located, keys, reward)
    kept = filter_rows(narrow.rewards, narrow.groups, rules)
    rewards = np.where(kept.mask, narrow.rewards, np.nan)
    found = preference_pairs(rewards, narrow.groups, strategy, margin, seed)
    refuse_empty(int(kept.mask.sum()), kept.dropped, located.name, allow_empty=allow_empty)
    if not len(found) and not allow_empty:
        raise ValueError(
            f"no pair in {located.name}: no two rewards of a group differ by more than {margin:g}; "
            "--allow-empty writes none"
        )
    rows_of, written = as_written(located, path)
    read = [*said, *numbered(rows_of, [*shared, *each]).values()]
    halves = sort_on_disk(
        _halves(rows_of, narrow, read, reward, found), 0, len(found), directory=spill_directory
    )
    with located.reading():
        types = rows_of.frame.select(read).collect_schema()
    unlike = np.ones(len(found), dtype=np.bool_)
    joined = (_joined(located, frame, shared, each) for frame in halves)
    frames = _unlike(joined, located, unlike, allow_empty=allow_empty)
    schema = _schema(types, shared, each)
    rows = write_frames(frames, schema, path, written=written, overwrite=overwrite, dry_run=dry_run)
    return WriteSummary(
        rows=rows,
        groups=len(np.unique(narrow.groups.codes[found[unlike, 0]])),
        dropped=kept.dropped,
        exploded=located.exploded,
        same_text=len(found) - rows,
    )


def _kept(
    source: Source, keys: Sequence[str], columns: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the names of keys, which the two of a pair share, and of columns of either."""
    shared = kept_columns(source, keys, (), COLUMNS)
    each = kept_columns(source, (), columns, ())
    written = [*COLUMNS, *shared]
    for name in each:
        for side in SIDES:
            if f"{side}_{name}" in written:
                raise ValueError(f"columns: {side}_{name} is written anyway; leave out {name!r}")
    return shared, each


def _schema(read: pl.Schema, shared: Sequence[str], each: Sequence[str]) -> pl.Schema:
    kept = [read[f"kept{i}"] for i in range(len(shared) + len(each))]
    said, number = read["completion"], pl.Float64()
    written = dict(zip(COLUMNS, (read["prompt"], said, said, number, number, number), strict=True))
    written |= dict(zip(shared, kept, strict=False))
    for name, kind in zip(each, kept[len(shared) :], strict=True):
        written |= {f"{side}_{name}": kind for side in SIDES}
    return pl.Schema(written)


def _halves(
    source: Source,
    narrow: KeyedRewards,
    columns: Sequence[pl.Expr],
    reward: str,
    found: NDArray[np.int64],
) -> Iterator[pl.DataFrame]:
    """Yield both rows of each pair as they stream by, with the position of the pair."""
    sides = found.ravel()
    order = np.argsort(sides, kind="stable")
    rows = sides[order]
    # The prompt travels with the chosen row; of the other one, only what tells it apart.
    prompt = pl.when("is_chosen").then("prompt").alias("prompt")
    for part, frame in gather_rows(source, narrow, columns, reward, rows):
        refuse_null(source, frame["prompt"], rows[part], "prompt")
        refuse_null(source, frame["completion"], rows[part], "completion")
        numbers = {
            "position": order[part] // 2,
            "is_chosen": order[part] % 2 == 0,
            "row": rows[part],
        }
        yield frame.with_columns(
            *(pl.Series(name, values) for name, values in numbers.items()),
            source.alike(frame["prompt"]).hash().alias("prompt_hash"),
        ).with_columns(prompt)


def _joined(
    source: Source, frame: pl.DataFrame, shared: Sequence[str], each: Sequence[str]
) -> pl.DataFrame:
    """Put the halves side by side: both of a pair are here, in the order of the pairs."""
    chosen, rejected = (frame.filter(pl.col("is_chosen") == side) for side in (True, False))
    differ = chosen["prompt_hash"] != rejected["prompt_hash"]
    if differ.any():
        place = int(np.argmax(differ.to_numpy()))
        both = source.both(chosen["row"][place], rejected["row"][place])
        rows = f"{both} of {source.name}"
        raise ValueError(f"{rows} are of one group but have different prompts; add a key to `by`")
    kept = [chosen[f"kept{i}"].alias(name) for i, name in enumerate(shared)]
    for i, name in enumerate(each, len(shared)):
        halves = zip(SIDES, (chosen, rejected), strict=True)
        kept += [half[f"kept{i}"].alias(f"{side}_{name}") for side, half in halves]
    return pl.DataFrame(
        [
            chosen["prompt"],
            chosen["completion"].alias("chosen"),
            rejected["completion"].alias("rejected"),
            (chosen["reward"] - rejected["reward"]).alias("margin"),
            chosen["reward"].alias("chosen_reward"),
            rejected["reward"].alias("rejected_reward"),
            *kept,
        ]
    )


def _unlike(
    frames: Iterable[pl.DataFrame], source: Source, unlike: NDArray[np.bool_], *, allow_empty: bool
) -> Iterator[pl.DataFrame]:
    """Yield the pairs of different texts, and mark in `unlike`, one for each pair, which are."""
    row = 0
    for frame in frames:
        differ = source.alike(frame["chosen"]) != source.alike(frame["rejected"])
        unlike[row : row + frame.height] = differ
        row += frame.height
        yield frame.filter(differ)
    if row and not unlike.any() and not allow_empty:
        raise ValueError(
            f"no pair in {source.name}: in all {row} the chosen and the rejected completion are the"
            " same text; --allow-empty writes none"
        )
