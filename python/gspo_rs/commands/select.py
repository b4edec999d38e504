"""`gspo-rs select`."""

from gspo_rs.commands.parameters import (
    By,
    Keep,
    Overwrite,
    Reward,
    Source,
    Target,
    Threshold,
    Verbose,
)
from gspo_rs.commands.written import tell


def select(
    source: Source,
    target: Target,
    *,
    by: By,
    keep: Keep,
    reward: Reward = "reward",
    threshold: Threshold = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> int:
    """Choose rows by rules and write which they are: row numbers and digests of the files."""
    from gspo_rs.files import selection

    return tell(
        lambda: selection.select(
            source,
            target,
            by=by,
            keep=keep,
            reward=reward,
            threshold=threshold,
            overwrite=overwrite,
        ),
        target,
        verbose=verbose,
    )
