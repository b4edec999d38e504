"""`gspo-rs report`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gspo_rs.cli import logs
from gspo_rs.cli.errors import command
from gspo_rs.cli.parameters import By, Overwrite, Reward
from gspo_rs.cli.terminal import printable


@command("stopped; nothing was written")
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
) -> str:
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
    return f"{printable(str(path))}, {path.stat().st_size / 1000:,.0f} kB\n"
