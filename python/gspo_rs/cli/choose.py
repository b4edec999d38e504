"""Commands that write one table into a file: `gspo-rs best`, `explode`, `filter`, `nest`, ….

Each calls the function of its name; its parameters appear in `--help`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gspo_rs.cli.calls import calls
from gspo_rs.cli.outcome import Outcome, grouping, of_write
from gspo_rs.cli.parameters import (
    AllowEmpty,
    Beside,
    By,
    Chat,
    Columns,
    Completion,
    DryRun,
    Grades,
    Keep,
    Layout,
    Overwrite,
    Prompt,
    Reward,
    Several,
    Sources,
    Split,
    Strategy,
    Target,
    Threshold,
    Whole,
)

__all__ = ["best", "explode", "filter", "nest", "pairs", "verl"]


def _written(
    verb: str, following: str = "scan", *, by: bool = False
) -> Callable[[Any, Mapping[str, Any]], Outcome]:
    """Return what says that a table was written, and what to do next with it.

    With `by` the next command gets the same `by` and reward.
    """

    def ended(written: Any, chosen: Mapping[str, Any]) -> Outcome:
        target: Path = chosen["target"]
        same = grouping(chosen.get("by"), chosen.get("reward")) if by else []
        more = [following, str(target), *same]
        return of_write(verb, written, target, following=more, dry_run=chosen["dry_run"])

    return ended


@calls("files.best", _written("best"))
def best(
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    n: Whole = 1,
    reward: Reward = None,
    prompt: Prompt = None,
    completion: Completion = None,
    columns: Beside = None,
    keep: Keep = "all",
    threshold: Threshold = None,
    chat: Chat = False,
    split: Split = None,
    grades: Grades = None,
    allow_empty: AllowEmpty = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the best completions of each group: prompt, completion, reward, keys.

    Parameters
    ----------
    n
        Completions per group; ties go to the first row.
    """


@calls("files.nested", _written("explode"))
def explode(
    source: Sources,
    /,
    *,
    target: Target,
    once: Several = None,
    split: Split = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write one row per completion from one row per group with lists.

    Parameters
    ----------
    once
        List columns that belong to the group as a whole and are not split; joined by commas, or
        repeat the option.
    """


@calls("files.filtered", _written("filter", "stats", by=True))
def filter(  # noqa: A001
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    keep: Keep,
    reward: Reward = None,
    threshold: Threshold = None,
    columns: Columns = None,
    layout: Annotated[
        Layout,
        Parameter(help="wide: the rows; narrow: their row numbers and digests of the files."),
    ] = "wide",
    split: Split = None,
    grades: Grades = None,
    allow_empty: AllowEmpty = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the rows that rules keep, or their row numbers."""


@calls("files.nested", _written("nest"))
def nest(
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    once: Several = None,
    reward: Reward = None,
    split: Split = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write one row per group, its columns as lists.

    Parameters
    ----------
    once
        Columns that are the same in a whole group, such as the prompt; joined by commas, or repeat
        the option.
    """


@calls("files.pairs", _written("pairs"))
def pairs(
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    reward: Reward = None,
    prompt: Prompt = None,
    completion: Completion = None,
    columns: Beside = None,
    strategy: Strategy = "best_worst",
    margin: float = 0.0,
    seed: Whole = 0,
    keep: Keep = "all",
    threshold: Threshold = None,
    chat: Chat = False,
    split: Split = None,
    grades: Grades = None,
    allow_empty: AllowEmpty = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write preference pairs for DPO: prompt, chosen, rejected, margin, keys.

    Parameters
    ----------
    strategy
        Best against worst, every pair, or best against a random worse completion.
    margin
        The chosen reward must exceed the rejected one by more than this; ties never pair.
    seed
        Random seed of best_random.
    """


def _as_split(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the options of verl, whose `split` is not the one that is read."""
    return {"split" if name == "split_name" else name: value for name, value in chosen.items()}


@calls("files.verl", _written("verl"), taken=_as_split)
def verl(
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    ground_truth: str | None = None,
    data_source: str | None = None,
    ability: str = "",
    split_name: str = "train",
    reward: Reward = None,
    prompt: Prompt = None,
    keep: Keep = "all",
    threshold: Threshold = None,
    split: Split = None,
    allow_empty: AllowEmpty = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Write one prompt per group in the schema of verl.

    Parameters
    ----------
    ground_truth
        Column with the reference answers; the column `reward_model` by default.
    data_source
        Name by which verl finds the reward function; the column `data_source` by default.
    ability
        The ability that the prompts train.
    split_name
        What extra_info says of the split of the data, such as train or test.
    """
