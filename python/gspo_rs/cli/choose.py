"""The commands that choose and write one file: `gspo-rs best`, `lists`, `pairs`, `rows`, ….

Each is the function of `gspo_rs.files` that it names; the parameters are those of `--help`.
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
    """Make a command of a signature: a function of `gspo_rs.files` gets its arguments."""

    def decorate(asked: Callable[..., None]) -> Callable[..., int]:
        @command("stopped; {target} is as it was")
        @wraps(asked)
        def write(*given: object, **options: object) -> str:
            bound = signature(asked).bind(*given, **options)
            bound.apply_defaults()
            # None stands for what the function does by default.
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
        How many of each group; of tied ones, the first.
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
        The best against the worst, every pair, or the best against a random worse one.
    margin
        What the chosen reward exceeds the rejected one by, and more; ties never make a pair.
    seed
        For best_random.
    """


@_calls("nested", "to_rows")
def rows(
    source: Source,
    target: Target,
    *,
    once: Once = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one row per completion out of groups as lists.

    Parameters
    ----------
    once
        Columns that are lists of the group as a whole.
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
    """Choose rows by rules and write which they are: row numbers and digests of the files."""


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
        Column of what an answer is compared with; the column `reward_model` by default.
    data_source
        By which verl finds the reward function; the column `data_source` by default.
    ability
        What the prompts train.
    split
        The part of the data.
    """
