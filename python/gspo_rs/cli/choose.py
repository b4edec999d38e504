"""Commands that write one table into a file: `gspo-rs best`, `explode`, `filter`, `nest`, ….

Each calls the function of its name; its parameters appear in `--help`.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gspo_rs.cli.errors import command
from gspo_rs.cli.names import named, place
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
    Once,
    Overwrite,
    Prompt,
    Reward,
    Sources,
    Split,
    Strategy,
    Target,
    Threshold,
    Whole,
)

__all__ = ["best", "explode", "filter", "nest", "pairs", "verl"]

NAMES = ("by", "once", "columns")


def _calls(
    module: str, *following: str, by: bool = False
) -> Callable[[Callable[..., None]], Callable[..., int]]:
    """Turn a signature into a command that calls the function of its name in `gspo_rs.files`.

    What comes next is `following` on what was written, with the same `by` and reward if these are
    still there.
    """

    def decorate(asked: Callable[..., None]) -> Callable[..., int]:
        @command("stopped; {target} is as it was", summarized=True)
        @wraps(asked)
        def write(*given: object, **options: object) -> Outcome:
            bound = signature(asked).bind(*given, **options)
            bound.apply_defaults()
            # None means the function's default.
            chosen = {key: value for key, value in bound.arguments.items() if value is not None}
            chosen["source"] = place(
                chosen["source"], chosen.pop("split", None), chosen.pop("grades", None)
            )
            chosen |= {key: named(chosen[key], chosen["source"]) for key in NAMES if key in chosen}
            if "split_name" in chosen:
                chosen["split"] = chosen.pop("split_name")
            function = getattr(import_module(f"gspo_rs.files.{module}"), asked.__name__)
            return _ended(asked.__name__, function(**chosen), chosen, following, by=by)

        return write

    return decorate


def _ended(
    verb: str, written: Any, chosen: dict[str, Any], following: tuple[str, ...], *, by: bool
) -> Outcome:
    target: Path = chosen["target"]
    same = grouping(chosen.get("by"), chosen.get("reward")) if by else []
    return of_write(
        verb,
        written,
        target,
        following=[*following, str(target), *same],
        dry_run=chosen["dry_run"],
    )


@_calls("best", "scan")
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


@_calls("nested", "scan")
def explode(
    source: Sources,
    /,
    *,
    target: Target,
    once: Once = None,
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


@_calls("filtered", "stats", by=True)
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


@_calls("nested", "scan")
def nest(
    source: Sources,
    /,
    *,
    target: Target,
    by: By = None,
    once: Once = None,
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


@_calls("pairs", "scan")
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


@_calls("verl", "scan")
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
