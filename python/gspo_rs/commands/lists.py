"""`gspo-rs lists`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import lists as files


def lists(
    source: str,
    target: Path,
    *,
    by: Annotated[list[str], Parameter(consume_multiple=True)],
    once: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    reward: str = "reward",
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Write one row per group, its columns as lists.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: .parquet, .jsonl or .ndjson.
    by
        The columns that name the group of a row.
    once
        Columns that are the same in a whole group, such as the prompt.
    reward
        Column of the rewards.
    verbose
        Show where an error comes from.
    """
    try:
        written = files.to_lists(source, target, by=by, once=once or [], reward=reward)
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
