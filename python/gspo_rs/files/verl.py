"""One prompt per group from scored completions, in the schema of verl's RL data sets.

`verl` writes them into a file, `prompts` hands them on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.column_names import column_in
from gspo_rs.data.group_index import KeyedRewards, read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.files.filters import filter_rows, parse, refuse_empty
from gspo_rs.files.gather import gather_rows, refuse_null
from gspo_rs.files.in_memory import frame_without_target
from gspo_rs.files.messages import PROMPT, as_messages, named, turn
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames
from gspo_rs.groups.statistics import stats

__all__ = ["GroupPrompts", "Recipe", "prompts", "verl"]

# How the command line calls the columns that may be missing.
ON_THE_COMMAND_LINE = {
    "prompt": "--prompt",
    "reward_model": "--ground-truth",
    "data_source": "--data-source",
}
ABOUT_GROUP = {"index": pl.Int64(), "group_size": pl.Int64(), "group_mean": pl.Float64()}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prompt is made of a group.

    Attributes
    ----------
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    ground_truth : str, optional
        Column of what the answer is compared with; by default ``reward_model`` has it.
    data_source : str, optional
        By which verl finds the reward function; by default the column ``data_source`` says.
    ability, split : str, optional
        As verl has them; left out by default.
    reward : str
        Column of the rewards.
    prompt : str, optional
        Column of the prompts, text or messages; by default ``prompt``.
    keep : str
        Rules of `gspo_rs.files.filters`; a group is left out if they drop all of its rows.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    """

    by: str | Sequence[str]
    ground_truth: str | None = None
    data_source: str | None = None
    ability: str | None = None
    split: str | None = None
    reward: str = "reward"
    prompt: str | None = None
    keep: str = "all"
    threshold: float | None = None


@dataclass(frozen=True)
class GroupPrompts:
    """Prompts that were found and are not read yet.

    Attributes
    ----------
    schema : Schema
        Of the `frames`.
    frames : iterator of DataFrame
        The prompts, some at a time; to be used once. Raises as `prompts`.
    groups : int
        How many prompts there are.
    dropped : dict of str to int
        Rows of the source that each rule dropped.
    """

    schema: pl.Schema
    frames: Iterator[pl.DataFrame]
    groups: int
    dropped: dict[str, int]


@with_known_columns
@frame_without_target
def verl(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    ground_truth: str | None = None,
    data_source: str | None = None,
    ability: str = "",
    split: str = "train",
    reward: str = "reward",
    prompt: str | None = None,
    keep: str = "all",
    threshold: float | None = None,
    allow_empty: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write one prompt per group, to be sampled and scored by verl.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`.
    target : path, optional
        The file to write, ``.parquet`` for verl; without one the prompts are returned.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    ground_truth : str, optional
        Column of what the answer is compared with; becomes text. By default the column
        ``reward_model`` is taken as it is.
    data_source : str, optional
        By which verl finds the reward function, such as ``openai/gsm8k``; by default the column
        ``data_source`` says.
    ability, split : str
        As verl has them: what the prompts train, and the part of the data.
    reward : str
        Column of the rewards, for `keep` and for the mean in ``extra_info``.
    prompt : str, optional
        Column of the prompts, text or messages; by default ``prompt``.
    keep : str
        Rules of `gspo_rs.files.filters`; a group is left out if they drop all of its rows.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
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
        If a column is missing, or the prompt, the ground truth or the data source is null or
        differs within a group (names the row).
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the target not written.

    Notes
    -----
    The columns are ``data_source``, ``prompt`` (a list of messages), ``ability``,
    ``reward_model`` (``style``, which is "rule", and ``ground_truth``) and ``extra_info``
    (``split``, ``index``, counted from 0 over the file, ``group_size`` and ``group_mean``, and
    what ``extra_info`` says in the first row of the group). The schema is that of [1]_.

    References
    ----------
    .. [1] verl, "Prepare data for post-training", in its documentation.

    Examples
    --------
    >>> rows = {"prompt": ["1+1="] * 2, "answer": [2, 2], "reward": [0.0, 1.0]}
    >>> found = verl(pl.DataFrame(rows), by="prompt", ground_truth="answer", data_source="sums")
    >>> found["reward_model"].to_list()
    [{'style': 'rule', 'ground_truth': '2'}]
    """
    located, keys = by_member(
        locate(source), by, [reward], prompt=prompt, beside=[ground_truth, "reward_model"]
    )
    path = checked_target(target, located, overwrite=overwrite)
    recipe = Recipe(
        by=keys,
        ground_truth=ground_truth,
        data_source=data_source,
        ability=ability,
        split=split,
        reward=reward,
        prompt=prompt,
        keep=keep,
        threshold=threshold,
    )
    nested, written = as_written(located, path, typed=["extra_info"])
    found = prompts(located, recipe, written=nested)
    refuse_empty(found.groups, found.dropped, located.name, allow_empty=allow_empty)
    rows = write_frames(
        found.frames, found.schema, path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    return WriteSummary(
        rows=rows, groups=found.groups, dropped=found.dropped, exploded=located.exploded
    )


def prompts(
    source: Source,
    recipe: Recipe,
    options: Mapping[str, str] = ON_THE_COMMAND_LINE,
    written: Source | None = None,
) -> GroupPrompts:
    """Find the groups of some rows, and read one prompt of each.

    Parameters
    ----------
    source : Source
        Scored completions, one a row; read twice, the second time when the frames are taken.
    recipe : Recipe
        What makes a prompt.
    options : mapping of str to str
        The option with which a user names each column that may be missing, for errors.
    written : Source, optional
        The same rows as `gspo_rs.files.writer.as_written` gives them, to read the prompts from.

    Returns
    -------
    GroupPrompts
        With the columns ``data_source``, ``prompt`` (a list of messages), ``ability``,
        ``reward_model`` and ``extra_info``. The last holds ``split``, ``index``, counted from 0,
        what ``extra_info`` says in the first row of the group, ``group_size`` and ``group_mean``.

    Raises
    ------
    ValueError
        If a column is missing, or the prompt, its ground truth or its data source is null or
        differs within a group (names the row).
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be read.

    Examples
    --------
    >>> from gspo_rs.data.source import locate
    >>> rows = {"prompt": ["1+1="] * 2, "answer": [2, 2], "reward": [0.0, 1.0]}
    >>> recipe = Recipe(by="prompt", ground_truth="answer", data_source="sums")
    >>> found = prompts(locate(pl.DataFrame(rows)), recipe)
    >>> [frame["extra_info"][0] for frame in found.frames]
    [{'index': 0, 'group_size': 2, 'group_mean': 0.5}]
    """
    rules = parse(recipe.keep, recipe.threshold)
    columns, names = _columns(source, recipe, options)
    narrow = read_keys(
        source, recipe.by, recipe.reward, [value.hash() for value in _same(source, recipe, names)]
    )
    for number, name in enumerate(names.values()):
        _refuse_differing(source, narrow, f"beside{number}", name)
    kept = filter_rows(narrow.rewards, narrow.groups, rules)
    groups = np.unique(narrow.groups.codes[kept.mask])
    rows = written or source
    frames = _frames(rows, recipe, columns, narrow, groups)
    with source.reading():
        read = rows.frame.select(columns).collect_schema()
    about = pl.Schema(ABOUT_GROUP).to_frame()
    schema = _in_schema(read.to_frame().hstack(about), recipe).schema
    return GroupPrompts(schema, frames, len(groups), kept.dropped)


def _columns(
    source: Source, recipe: Recipe, options: Mapping[str, str]
) -> tuple[list[pl.Expr], Mapping[str, str]]:
    """Return what to read, and the columns that are the same in all rows of a group.

    The latter are named by what is read of them.
    """
    prompt = turn(source, "prompt", recipe.prompt, PROMPT, options["prompt"])
    columns, names = [as_messages(source, prompt, "user")], {"prompt": prompt.name}
    if recipe.ground_truth is not None:
        truth = named(source, recipe.ground_truth, (), "")
        names["ground_truth"] = truth
        if (found := source.as_text(truth)).is_nested():
            raise TypeError(
                f"column {truth!r} of {source.name} is {found}, which is no text; name a field of "
                "it, or write it as text first"
            )
        columns.append(source.column(truth).cast(pl.String).alias("ground_truth"))
    wanted = {"reward_model": recipe.ground_truth, "data_source": recipe.data_source}
    for name, given in wanted.items():
        if given is None:
            names[name] = named(source, None, (name,), options[name])
            columns.append(pl.col(name))
    schema = source.check([])
    if recipe.ability is None and "ability" in schema:
        columns.append(pl.col("ability"))
    if isinstance(schema.get("extra_info"), pl.Struct):
        columns.append(pl.col("extra_info"))
    return columns, names


def _same(source: Source, recipe: Recipe, names: Mapping[str, str]) -> Iterator[pl.Expr]:
    """Yield what is the same in all rows of a group: of a conversation, what is its prompt."""
    prompt = turn(source, "prompt", recipe.prompt, PROMPT, "")
    for name in names.values():
        yield prompt.said(source) if prompt == (*prompt[:1], name, True) else source.column(name)


def _frames(
    source: Source,
    recipe: Recipe,
    columns: Sequence[pl.Expr],
    narrow: KeyedRewards,
    groups: NDArray[np.int64],
) -> Iterator[pl.DataFrame]:
    firsts = narrow.groups.order[narrow.groups.offsets[groups]]
    found = stats(narrow.rewards, narrow.groups)
    for part, frame in gather_rows(source, narrow, columns, recipe.reward, firsts):
        for name in set(frame.columns) & {"prompt", "ground_truth", "reward_model", "data_source"}:
            refuse_null(source, frame[name], firsts[part], name.replace("_", " "))
        about: dict[str, Any] = {
            "index": np.arange(part.start, part.stop),
            "group_size": found.size[groups[part]],
            "group_mean": found.mean[groups[part]],
        }
        group_columns = pl.DataFrame(about, schema=ABOUT_GROUP).fill_nan(None)
        yield _in_schema(frame.hstack(group_columns), recipe)


def _in_schema(frame: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    columns = {name: pl.col(name) for name in ("data_source", "prompt", "ability", "reward_model")}
    if recipe.data_source is not None:
        columns["data_source"] = pl.lit(recipe.data_source)
    if recipe.ability is not None:
        columns["ability"] = pl.lit(recipe.ability)
    elif "ability" not in frame.columns:
        del columns["ability"]
    if recipe.ground_truth is not None:
        columns["reward_model"] = pl.struct(style=pl.lit("rule"), ground_truth="ground_truth")
    extra: dict[str, pl.Expr] = {}
    if recipe.split is not None:
        extra["split"] = pl.lit(recipe.split)
    extra["index"] = pl.col("index")
    if "extra_info" in frame.columns:
        fields = frame["extra_info"].struct.fields
        extra |= {name: column_in(frame.schema, f"extra_info.{name}") for name in fields}
    extra |= {name: pl.col(name) for name in ("group_size", "group_mean")}
    info = pl.struct([value.alias(name) for name, value in extra.items()])
    return frame.select(**columns, extra_info=info)


def _refuse_differing(source: Source, narrow: KeyedRewards, column: str, name: str) -> None:
    """Raise for the first row that has something else than the first of its group."""
    hashes = narrow.beside[column].to_numpy()
    firsts = narrow.groups.order[narrow.groups.offsets[:-1]]
    differ = hashes != hashes[firsts][narrow.groups.codes]
    if differ.any():
        row = int(np.argmax(differ))
        first = int(firsts[narrow.groups.codes[row]])
        rows = f"{source.both(first, row)} of {source.name}"
        raise ValueError(f"{rows} are of one group but differ in {name!r}; add a key to `by`")
