"""`gspo-rs verl`."""

from gspo_rs.commands.parameters import (
    By,
    Keep,
    Overwrite,
    Prompt,
    Reward,
    Source,
    Target,
    Threshold,
    Verbose,
)
from gspo_rs.commands.written import tell


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
    verbose: Verbose = False,
) -> int:
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
    from gspo_rs.files import verl as files

    return tell(
        lambda: files.verl(
            source,
            target,
            by=by,
            ground_truth=ground_truth,
            data_source=data_source,
            ability=ability,
            split=split,
            reward=reward,
            prompt=prompt,
            keep=keep,
            threshold=threshold,
            overwrite=overwrite,
        ),
        target,
        verbose=verbose,
    )
