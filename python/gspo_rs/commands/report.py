"""`gspo-rs report`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.commands import logs
from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.parameters import By, Overwrite, Reward, Verbose
from gspo_rs.terminal import printable


def report(
    src: list[str],
    /,
    *,
    by: By,
    output: Annotated[Path, Parameter(name=["-o", "--output"])] = Path("report.html"),
    reward: Reward = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    source: str | None = None,
    threshold: float | None = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
) -> int:
    """Write one HTML page about scored completions, which opens without a network.

    Parameters
    ----------
    src
        Files or globs of one format: .parquet, .jsonl, .ndjson or .csv.
    output
        The page.
    prompt
        Column of the prompts; `prompt` if there is one.
    completion
        Column of the completions; `completion` or `response` if just one is there.
    source
        Column of what wrote the completion; `source` or `model` if just one is there.
    threshold
        Reward from which on a completion is right, for pass at k; 0 and 1 need none.
    """
    from gspo_rs import report as library

    logs.show("%(message)s")
    try:
        path = library.report(
            src,
            output,
            by=by,
            reward=reward,
            prompt=prompt,
            completion=completion,
            model=source,
            threshold=threshold,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        return interrupted("stopped; nothing was written")
    except TOLD as error:
        return told(error, verbose=verbose)
    sys.stdout.write(f"{printable(str(path))}, {path.stat().st_size / 1000:,.0f} kB\n")
    return 0
