"""The prompts of scored groups in the schema that verl's RL data sets have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from gspo_rs.census import Narrow, read_narrow
from gspo_rs.files.keep import choose, parse
from gspo_rs.files.output import Written, checked_target, write_frames
from gspo_rs.files.picked import picked, refuse_null
from gspo_rs.files.texts import PROMPT, as_messages, named
from gspo_rs.source import Source, SourceLike, locate
from gspo_rs.statistics import stats

__all__ = ["verl"]

EXTRA = {
    "split": pl.String(),
    "index": pl.Int64(),
    "group_size": pl.Int64(),
    "group_mean": pl.Float64(),
}


def verl(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str],
    ground_truth: str,
    data_source: str,
    ability: str = "",
    split: str = "train",
    reward: str = "reward",
    prompt: str | None = None,
    keep: str = "all",
) -> Written:
    """Write one prompt per group, to be sampled and scored by verl.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`.
    target : path
        The file to write, ``.parquet`` for verl. An old one is replaced.
    by : str or sequence of str
        The columns that name the group of a row.
    ground_truth : str
        Column of what the answer is compared with; becomes text.
    data_source : str
        By which verl finds the reward function, such as ``openai/gsm8k``.
    ability, split : str
        As verl has them: what the prompts train, and the part of the data.
    reward : str
        Column of the rewards, for `keep` and for the mean in ``extra_info``.
    prompt : str, optional
        Column of the prompts, text or messages; by default ``prompt``.
    keep : str
        Rules of `gspo_rs.files.keep`; a group is left out if they drop all of its rows.

    Returns
    -------
    Written

    Raises
    ------
    ValueError
        If a column is missing, or the prompt or the ground truth is null or differs within a
        group (names the row).
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the target not written.

    Notes
    -----
    The columns are ``data_source``, ``prompt`` (a list of messages), ``ability``,
    ``reward_model`` (``style``, which is "rule", and ``ground_truth``) and ``extra_info``
    (``split``, ``index``, counted from 0 over the file, ``group_size`` and ``group_mean``). The
    schema is that of [1]_.

    References
    ----------
    .. [1] verl, "Prepare data for post-training", in its documentation.

    Examples
    --------
    >>> import tempfile
    >>> rows = {"prompt": ["1+1="] * 2, "answer": [2, 2], "reward": [0.0, 1.0]}
    >>> options = {"by": "prompt", "ground_truth": "answer", "data_source": "sums"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "train.parquet"
    ...     written = verl(pl.DataFrame(rows), file, **options)
    ...     pl.read_parquet(file)["reward_model"].to_list()
    [{'style': 'rule', 'ground_truth': '2'}]
    """
    located = locate(source)
    path, rules = checked_target(target, located), parse(keep)
    asked = named(located, prompt, PROMPT, "--prompt")
    named(located, ground_truth, (), "--ground-truth")
    columns = [
        as_messages(located, asked, "user").alias("prompt"),
        pl.col(ground_truth).cast(pl.String).alias("ground_truth"),
    ]
    narrow = read_narrow(
        located, by, reward, [pl.col(name).hash() for name in (asked, ground_truth)]
    )
    for number, name in enumerate((asked, ground_truth)):
        _refuse_differing(located, narrow, f"beside{number}", name)
    kept = choose(narrow.rewards, narrow.groups, rules)
    groups = np.unique(narrow.groups.codes[kept.mask])
    firsts = narrow.groups.order[narrow.groups.offsets[groups]]
    found = stats(narrow.rewards, narrow.groups)

    def frames() -> Iterator[pl.DataFrame]:
        for part, frame in picked(located, narrow, columns, reward, firsts):
            refuse_null(located, frame["prompt"], firsts[part], "prompt")
            refuse_null(located, frame["ground_truth"], firsts[part], "ground truth")
            size, mean = found.size[groups[part]], found.mean[groups[part]]
            index = np.arange(part.start, part.stop)
            extra = pl.DataFrame({"index": index, "group_size": size, "group_mean": mean})
            yield _in_schema(frame, extra.fill_nan(None), data_source, ability, split)

    with located.reading():
        messages = located.frame.select(columns[0]).collect_schema()["prompt"]
    rows = write_frames(frames(), _schema(messages), path)
    return Written(rows=rows, groups=len(groups), dropped=kept.dropped)


def _schema(messages: pl.DataType) -> pl.Schema:
    text = pl.String()
    return pl.Schema(
        {
            "data_source": text,
            "prompt": messages,
            "ability": text,
            "reward_model": pl.Struct({"style": text, "ground_truth": text}),
            "extra_info": pl.Struct(EXTRA),
        }
    )


def _in_schema(
    frame: pl.DataFrame, extra: pl.DataFrame, data_source: str, ability: str, split: str
) -> pl.DataFrame:
    return frame.hstack(extra).select(
        pl.lit(data_source).alias("data_source"),
        "prompt",
        pl.lit(ability).alias("ability"),
        pl.struct(style=pl.lit("rule"), ground_truth="ground_truth").alias("reward_model"),
        pl.struct(pl.lit(split).alias("split"), "index", "group_size", "group_mean").alias(
            "extra_info"
        ),
    )


def _refuse_differing(source: Source, narrow: Narrow, column: str, name: str) -> None:
    """Raise for the first row that has something else than the first of its group."""
    hashes = narrow.beside[column].to_numpy()
    firsts = narrow.groups.order[narrow.groups.offsets[:-1]]
    differ = hashes != hashes[firsts][narrow.groups.codes]
    if differ.any():
        row = int(np.argmax(differ))
        rows = f"rows {firsts[narrow.groups.codes[row]]} and {row} of {source.name}"
        raise ValueError(f"{rows} are of one group but differ in {name!r}; add a key to `by`")
