"""Commands that select rows and write one file: `gspo-rs best`, `lists`, `pairs`, `rows`, ….

Each calls a function of `gspo_rs.files`; its parameters appear in `--help`.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature

from gspo_rs.cli.errors import command, report_write
from gspo_rs.cli.parameters import (
    By,
    Chat,
    Completion,
    Keep,
    Once,
    Overwrite,
    Prompt,
    Reward,
    Source,
    Strategy,
    Target,
    Threshold,
    Whole,
)

__all__ = ["best", "lists", "pairs", "rows", "select", "verl"]


def _calls(module: str, name: str) -> Callable[[Callable[..., None]], Callable[..., int]]:
    """Turn a signature into a command that calls a function of `gspo_rs.files`."""

    def decorate(asked: Callable[..., None]) -> Callable[..., int]:
        @command("stopped; {target} is as it was")
        @wraps(asked)
        def write(*given: object, **options: object) -> str:
            bound = signature(asked).bind(*given, **options)
            bound.apply_defaults()
            # None means the function's default.
            chosen = {key: value for key, value in bound.arguments.items() if value is not None}
            function = getattr(import_module(f"gspo_rs.files.{module}"), name)
            return report_write(function(**chosen), chosen["target"])

        return write

    return decorate


@_calls("best", "best")
def best(
    source: Source,
    target: Target,
    *,
    by: By,
    n: Whole = 1,
    reward: Reward = "reward",
    prompt: Prompt = None,
    completion: Completion = None,
    keep: Keep = "all",
    threshold: Threshold = None,
    chat: Chat = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the best completions of each group: prompt, completion, reward.

    Parameters
    ----------
    n
        Completions per group; ties go to the first row.
    """


@_calls("nested", "to_lists")
def lists(
    source: Source,
    target: Target,
    *,
    by: By,
    once: Once = None,
    reward: Reward = "reward",
    overwrite: Overwrite = False,
) -> None:
    """Write one row per group, its columns as lists.

    Parameters
    ----------
    once
        Columns that are the same in a whole group, such as the prompt.
    """


@_calls("pairs", "pairs")
def pairs(
    source: Source,
    target: Target,
    *,
    by: By,
    reward: Reward = "reward",
    prompt: Prompt = None,
    completion: Completion = None,
    strategy: Strategy = "best_worst",
    margin: float = 0.0,
    seed: Whole = 0,
    keep: Keep = "all",
    threshold: Threshold = None,
    chat: Chat = False,
    overwrite: Overwrite = False,
) -> None:
    """Write preference pairs for DPO: prompt, chosen, rejected, margin.

    Parameters
    ----------
    strategy
        Best against worst, every pair, or best against a random worse completion.
    margin
        The chosen reward must exceed the rejected one by more than this; ties never pair.
    seed
        Random seed of best_random.
    """


@_calls("nested", "to_rows")
def rows(
    source: Source,
    target: Target,
    *,
    once: Once = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one row per completion from one row per group with lists.

    Parameters
    ----------
    once
        List columns that belong to the group as a whole and are not split.
    """


@_calls("selection", "select")
def select(
    source: Source,
    target: Target,
    *,
    by: By,
    keep: Keep,
    reward: Reward = "reward",
    threshold: Threshold = None,
    overwrite: Overwrite = False,
) -> None:
    """Select rows by rules and write their row numbers and the digests of the files."""


@_calls("verl", "verl")
def verl(
    source: Source,
    target: Target,
    *,
    by: By,
    ground_truth: str | None = None,
    data_source: str | None = None,
    ability: str = "",
    split: str = "train",
    reward: Reward = "reward",
    prompt: Prompt = None,
    keep: Keep = "all",
    threshold: Threshold = None,
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
    split
        The split of the data, such as train or test.
    """
