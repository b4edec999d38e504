"""`gspo-rs best`."""

from gspo_rs.commands.parameters import (
    By,
    Chat,
    Completion,
    Keep,
    Overwrite,
    Prompt,
    Reward,
    Source,
    Target,
    Threshold,
    Verbose,
    Whole,
)
from gspo_rs.commands.written import tell


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
    verbose: Verbose = False,
) -> int:
    """Write the best completions of each group: prompt, completion, reward.

    Parameters
    ----------
    n
        How many of each group; of tied ones, the first.
    """
    from gspo_rs.files import best as files

    return tell(
        lambda: files.best(
            source,
            target,
            by=by,
            n=n,
            reward=reward,
            prompt=prompt,
            completion=completion,
            keep=keep,
            threshold=threshold,
            chat=chat,
            overwrite=overwrite,
        ),
        target,
        verbose=verbose,
    )
