"""`gspo-rs lists`."""

from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.parameters import By, Overwrite, Reward, Source, Target, Verbose
from gspo_rs.commands.written import tell


def lists(
    source: Source,
    target: Target,
    *,
    by: By,
    once: Annotated[list[str] | None, Parameter(negative="")] = None,
    reward: Reward = "reward",
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> int:
    """Write one row per group, its columns as lists.

    Parameters
    ----------
    once
        Columns that are the same in a whole group, such as the prompt.
    """
    from gspo_rs.files import lists as files

    return tell(
        lambda: files.to_lists(
            source, target, by=by, once=once or [], reward=reward, overwrite=overwrite
        ),
        target,
        verbose=verbose,
    )
