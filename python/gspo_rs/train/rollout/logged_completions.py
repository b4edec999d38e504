"""The sampled completions of a run as Parquet files, one per batch of rollouts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gspo_rs.files import atomic
from gspo_rs.train.step.minibatch import Minibatch

__all__ = ["forget_after", "is_column", "log"]

# What a file has, besides the single rewards and what reward functions have logged.
_COLUMNS = (
    "step",
    "prompt_id",
    "prompt",
    "completion",
    "reward",
    "overlong_penalty",
    "advantage",
    "length",
    "truncated",
    "rollout",
)


def is_column(name: str) -> bool:
    """Return whether logged completions have a column of this name.

    Examples
    --------
    >>> is_column("length"), is_column("reward_short"), is_column("words")
    (True, True, False)
    """
    return name in _COLUMNS or name.startswith("reward_")


def log(folder: Path, cuts: Sequence[Minibatch], first: int) -> Path:
    """Write ``completions/completions_<step>.parquet`` of a batch of rollouts.

    Parameters
    ----------
    folder : Path
        Output folder of the run.
    cuts : sequence of Minibatch
        One per optimizer step of the first pass over the batch.
    first : int
        Number of the first of these steps; the file has it in its name, so that a step that is
        taken again after a resume replaces it.

    Returns
    -------
    Path
        The file: one row per completion, with ``step``, ``prompt_id``, ``prompt``, ``completion``,
        ``reward``, ``reward_<name>`` of each of several, ``overlong_penalty`` where it is added
        before groups are compared, ``advantage``, ``length`` in tokens, ``truncated``,
        ``rollout`` where one may have several sequences, and the columns that reward functions have
        logged: bools, float64 or text, null where there is none. A group is what one ``prompt_id``
        has; a run may end before it takes all steps of its last batch.
    """
    target = folder / "completions" / f"completions_{first:05}.parquet"
    target.parent.mkdir(exist_ok=True)
    frames = [_frame(cut, first + place) for place, cut in enumerate(cuts)]
    with atomic.file(target) as partial:
        # A column of nothing in one of them has no type there.
        pl.concat(frames, how="vertical_relaxed").write_parquet(partial)
    return target


def _frame(cut: Minibatch, step: int) -> pl.DataFrame:
    rollouts = cut.rollouts
    truncated = rollouts.truncated
    return pl.DataFrame(
        {
            "step": np.full(rollouts.n_rollouts, step, dtype=np.int64),
            "prompt_id": [f"{step}-{group}" for group in cut.groups.codes],
            "prompt": _said(rollouts.prompts),
            "completion": _said(rollouts.completions),
            "reward": _known(rollouts.reward),
            **{
                f"reward_{name}": _known(column)
                for name, column in (rollouts.rewards or {}).items()
            },
            **({} if cut.penalty is None else {"overlong_penalty": cut.penalty}),
            "advantage": cut.advantages,
            "length": cut.lengths,
            "truncated": np.zeros(rollouts.n_rollouts, bool) if truncated is None else truncated,
            **({} if rollouts.rollout_ids is None else {"rollout": rollouts.rollout_ids}),
            **(rollouts.extra or {}),
        }
    )


def _said(texts: Sequence[Any]) -> pl.Series:
    """Return texts, or messages with role and content; a content that is no text as JSON."""
    if isinstance(texts[0], str):
        return pl.Series(texts, dtype=pl.String)
    said = [
        [{"role": one.get("role"), "content": _text(one.get("content"))} for one in messages]
        for messages in texts
    ]
    return pl.Series(said, dtype=pl.List(pl.Struct({"role": pl.String, "content": pl.String})))


def _text(content: Any) -> str | None:
    return content if content is None or isinstance(content, str) else json.dumps(content)


def _known(rewards: np.ndarray) -> pl.Series:
    """Return rewards with null where a completion could not be scored."""
    return pl.Series(rewards).fill_nan(None)


def forget_after(folder: Path, step: int) -> None:
    """Remove the files of batches that a resumed run samples again.

    Parameters
    ----------
    folder : Path
        Output folder of the run.
    step : int
        The last one that is kept.
    """
    for path in (folder / "completions").glob("completions_*.parquet"):
        number = path.stem.removeprefix("completions_")
        if number.isdecimal() and int(number) > step:
            path.unlink()
