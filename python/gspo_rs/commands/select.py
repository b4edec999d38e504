"""`gspo-rs select`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import selection


def select(
    source: str,
    target: Path,
    *,
    by: Annotated[list[str], Parameter(consume_multiple=True)],
    keep: str,
    reward: str = "reward",
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Choose rows by rules and write which they are: row numbers and digests of the files.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: a selection file, .parquet.
    by
        The columns that name the group of a row.
    keep
        Rules such as `informative,pass-rate:0.1..0.9,top:0.25`; a wrong one lists the right ones.
    reward
        Column of the rewards.
    verbose
        Show where an error comes from.
    """
    try:
        written = selection.select(source, target, by=by, keep=keep, reward=reward)
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
