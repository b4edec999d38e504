"""`gspo-rs report`: an HTML page about scored completions."""

from pathlib import Path

from gspo_rs.cli.errors import command
from gspo_rs.cli.names import given_ones, named, place
from gspo_rs.cli.outcome import Outcome
from gspo_rs.cli.parameters import (
    By,
    Completion,
    DryRun,
    Grades,
    ModelColumn,
    Overwrite,
    Page,
    Per,
    Prompt,
    Reward,
    Sources,
    Split,
)


@command("stopped; nothing was written", summarized=True)
def report(
    source: Sources,
    /,
    *,
    target: Page = Path("report.html"),
    by: By = None,
    reward: Reward = None,
    prompt: Prompt = None,
    completion: Completion = None,
    model_column: ModelColumn = None,
    per: Per = None,
    compare: str | None = None,
    threshold: float | None = None,
    split: Split = None,
    grades: Grades = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> Outcome:
    """Write one HTML page about scored completions that opens without a network.

    Parameters
    ----------
    compare
        A file or a glob of other completions of the same prompts: both stand side by side, and
        groups with the same key are compared.
    threshold
        Lowest reward of a right completion, for pass@k; not needed if all rewards are 0 or 1.
    """
    from gspo_rs.report import report as library

    given = place(source, split, grades)
    written = library(
        given,
        target,
        **given_ones(by=named(by, given), reward=reward),
        prompt=prompt,
        completion=completion,
        model_column=model_column,
        per=named(per, given) or (),
        compare=compare,
        threshold=threshold,
        dry_run=dry_run,
        overwrite=overwrite,
    )
    size = len(written.html.encode())
    facts = {"verb": "report", "output": str(target), "dry_run": dry_run, "bytes": size}
    place_of = f"{target} would be written, and nothing was" if dry_run else str(target)
    return Outcome([f"{place_of}, {size / 1000:,.0f} kB"], facts)
