"""`gspo-rs rows`."""

from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.parameters import Overwrite, Source, Target, Verbose
from gspo_rs.commands.written import tell


def rows(
    source: Source,
    target: Target,
    *,
    once: Annotated[list[str] | None, Parameter(negative="")] = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> int:
    """Write one row per completion out of groups as lists.

    Parameters
    ----------
    once
        Columns that are lists of the group as a whole.
    """
    from gspo_rs.files import lists as files

    return tell(
        lambda: files.to_rows(source, target, once=once or [], overwrite=overwrite),
        target,
        verbose=verbose,
    )
