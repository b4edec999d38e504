"""`gspo-rs pairs`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.written import tell
from gspo_rs.files import pairs as files
from gspo_rs.pairs import Strategy


def pairs(
    source: str,
    target: Path,
    *,
    by: Annotated[list[str], Parameter(consume_multiple=True)],
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    strategy: Strategy = "best_worst",
    margin: float = 0.0,
    seed: int = 0,
    keep: str = "all",
    chat: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(name=["-v", "--verbose"], negative="")] = False,
) -> int:
    """Write preference pairs for DPO: prompt, chosen, rejected, margin.

    Parameters
    ----------
    source
        A file or a glob: .parquet, .jsonl, .ndjson or .csv.
    target
        The file to write: .parquet, .jsonl or .ndjson.
    by
        The columns that name the group of a row.
    reward
        Column of the rewards.
    prompt
        Column of the prompts; `prompt` by default.
    completion
        Column of the completions; `completion` or `response` by default.
    strategy
        The best against the worst, every pair, or the best against a random worse one.
    margin
        What the chosen reward exceeds the rejected one by, and more; ties never make a pair.
    seed
        For best_random.
    keep
        Rules such as `informative,pass-rate:0.1..0.9,top:0.25`; a wrong one lists the right ones.
    chat
        Turn texts into lists of messages.
    verbose
        Show where an error comes from.
    """
    try:
        written = files.pairs(
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
            chat=chat,
        )
    except KeyboardInterrupt:
        return interrupted(f"stopped; {target} is as it was")
    except TOLD as error:
        return told(error, verbose=verbose)
    return tell(written, target)
