"""The prompts of scored groups in a file that verl's RL data sets read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gspo_rs.files.output import Written, as_written, checked_target, write_frames
from gspo_rs.files.per_prompt import Recipe, prompts
from gspo_rs.source import SourceLike, locate

__all__ = ["verl"]


def verl(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str],
    ground_truth: str | None = None,
    data_source: str | None = None,
    ability: str = "",
    split: str = "train",
    reward: str = "reward",
    prompt: str | None = None,
    keep: str = "all",
    threshold: float | None = None,
    overwrite: bool = False,
) -> Written:
    """Write one prompt per group, to be sampled and scored by verl.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`.
    target : path
        The file to write, ``.parquet`` for verl.
    by : str or sequence of str
        The columns that name the group of a row.
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
        Rules of `gspo_rs.files.keep`; a group is left out if they drop all of its rows.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    Written

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
    >>> import tempfile
    >>> import polars as pl
    >>> rows = {"prompt": ["1+1="] * 2, "answer": [2, 2], "reward": [0.0, 1.0]}
    >>> options = {"by": "prompt", "ground_truth": "answer", "data_source": "sums"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "train.parquet"
    ...     written = verl(pl.DataFrame(rows), file, **options)
    ...     pl.read_parquet(file)["reward_model"].to_list()
    [{'style': 'rule', 'ground_truth': '2'}]
    """
    located = locate(source)
    path = checked_target(target, located, overwrite=overwrite)
    recipe = Recipe(
        by=by,
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
    rows = write_frames(found.frames, found.schema, path, written=written, overwrite=overwrite)
    return Written(rows=rows, groups=found.groups, dropped=found.dropped)
