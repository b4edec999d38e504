"""`gspo-rs pairs`."""

from gspo_rs.commands.parameters import (
    By,
    Chat,
    Completion,
    Keep,
    Overwrite,
    Prompt,
    Reward,
    Source,
    Strategy,
    Target,
    Threshold,
    Verbose,
    Whole,
)
from gspo_rs.commands.written import tell


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
    verbose: Verbose = False,
) -> int:
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
    from gspo_rs.files import pairs as files

    return tell(
        lambda: files.pairs(
            source,
            target,
            by=by,
            reward=reward,
            prompt=prompt,
            completion=completion,
            strategy=strategy,
            margin=margin,
            seed=seed,
            keep=keep,
            threshold=threshold,
            chat=chat,
            overwrite=overwrite,
        ),
        target,
        verbose=verbose,
    )
