"""`gspo-rs rows`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import lists as files


def rows(
    source: str,
    target: Path,
    *,
    once: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Write one row per completion out of groups as lists.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: .parquet, .jsonl or .ndjson.
    once
        Columns that are lists of the group as a whole.
    verbose
        Show where an error comes from.
    """
    try:
        written = files.to_rows(source, target, once=once or [])
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
