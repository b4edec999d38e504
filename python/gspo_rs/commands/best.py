"""`gspo-rs best`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import best as files


def best(
    source: str,
    target: Path,
    *,
    by: Annotated[list[str], Parameter(consume_multiple=True)],
    n: int = 1,
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    keep: str = "all",
    chat: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Write the best completions of each group: prompt, completion, reward.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: .parquet, .jsonl or .ndjson.
    by
        The columns that name the group of a row.
    n
        How many of each group; of tied ones, the first.
    reward
        Column of the rewards.
    prompt
        Column of the prompts; `prompt` by default.
    completion
        Column of the completions; `completion` or `response` by default.
    keep
        Rules such as `informative,pass-rate:0.1..0.9,top:0.25`; a wrong one lists the right ones.
    chat
        Turn texts into lists of messages.
    verbose
        Show where an error comes from.
    """
    try:
        written = files.best(
            source,
            target,
            by=by,
            n=n,
            reward=reward,
            prompt=prompt,
            completion=completion,
            keep=keep,
            chat=chat,
        )
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
