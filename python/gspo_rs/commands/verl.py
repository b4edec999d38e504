"""`gspo-rs verl`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import verl as files


def verl(
    source: str,
    target: Path,
    *,
    by: Annotated[list[str], Parameter(consume_multiple=True)],
    ground_truth: str | None = None,
    data_source: str | None = None,
    ability: str = "",
    split: str = "train",
    reward: str = "reward",
    prompt: str | None = None,
    keep: str = "all",
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Write one prompt per group in the schema of verl.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: .parquet, .jsonl or .ndjson.
    by
        The columns that name the group of a row.
    ground_truth
        Column of what an answer is compared with; the column `reward_model` by default.
    data_source
        By which verl finds the reward function; the column `data_source` by default.
    ability
        What the prompts train.
    split
        The part of the data.
    reward
        Column of the rewards.
    prompt
        Column of the prompts; `prompt` by default.
    keep
        Rules such as `informative,pass-rate:0.1..0.9,top:0.25`; a wrong one lists the right ones.
    verbose
        Show where an error comes from.
    """
    try:
        written = files.verl(
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
        )
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
