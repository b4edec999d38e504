"""`gspo-rs report`: an HTML page about scored completions."""

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
    """Write one HTML page about scored completions that opens without a network.

    Parameters
    ----------
    src
        Files or globs of one format: .parquet, .jsonl, .ndjson or .csv.
    output
        The HTML file to write.
    prompt
        Column of the prompts; by default `prompt`, if it exists.
    completion
        Column of the completions; by default `completion` or `response`, if only one exists.
    source
        Column of the model that wrote the completion; by default `source` or `model`, if only one
        exists.
    threshold
        Lowest reward of a right completion, for pass@k; not needed if all rewards are 0 or 1.
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
