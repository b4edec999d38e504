"""`gspo-rs report`: an HTML page about scored completions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gspo_rs.cli.calls import calls
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


def _reported(written: Any, chosen: Mapping[str, Any]) -> Outcome:
    target, dry_run = chosen["target"], chosen["dry_run"]
    size = len(written.html.encode())
    facts = {"verb": "report", "output": str(target), "dry_run": dry_run, "bytes": size}
    place = f"{target} would be written, and nothing was" if dry_run else str(target)
    return Outcome([f"{place}, {size / 1000:,.0f} kB"], facts)


@calls("report.page", _reported, stopped="stopped; nothing was written")
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
) -> None:
    """Write one HTML page about scored completions that opens without a network.

    Parameters
    ----------
    compare
        A file or a glob of other completions of the same prompts: both stand side by side, and
        groups with the same key are compared.
    threshold
        Lowest reward of a right completion, for pass@k; not needed if all rewards are 0 or 1.
    """
