"""`gspo-rs score` and `gspo-rs verify`: scored files written and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gspo_rs.cli.calls import calls
from gspo_rs.cli.errors import command
from gspo_rs.cli.outcome import Outcome, counted, grouping, read_by_lists
from gspo_rs.cli.parameters import (
    AllowEmpty,
    By,
    Drop,
    DryRun,
    Estimators,
    Folder,
    Grades,
    Keep,
    Layout,
    Overwrite,
    Reward,
    Sources,
    Split,
    Threshold,
)

if TYPE_CHECKING:
    from gspo_rs.files.scoring.manifest import Report


def _options(chosen: dict[str, Any]) -> dict[str, Any]:
    """Divide the names of estimators, and name the options of these."""
    given = dict(chosen)
    if words := given.get("estimator"):
        given["estimator"] = [name for word in words for name in word.split(",")]
    options = dict(map(_option, given.pop("option", ())))
    return dict(**given, **options)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--option {text!r} is not key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _scored(report: Report, chosen: Mapping[str, Any]) -> Outcome:
    dry_run = chosen["dry_run"]
    signal = report.groups - report.uninformative
    groups = f"{counted(report.groups, 'groups')}, {signal:,} of them with signal"
    found = f"{counted(report.rows, 'rows')} in {groups}"
    if report.kept != report.rows:
        found += f"; {counted(report.kept, 'rows')} kept"
    if report.by_file and report.files > 1:
        found += "; each file by itself"
    if report.skipped:
        found += f"; {report.skipped} of {counted(report.files, 'files')} were done"
    facts = {"verb": "score", "dry_run": dry_run, **asdict(report)}
    if dry_run:
        return Outcome([f"{found}; {report.output} would be written, and nothing was"], facts)
    following = ["report", str(report.output), *grouping(report.by, report.reward)]
    lines = [f"{found}; {report.output}"]
    if report.exploded:
        lines.append(read_by_lists(report.exploded))
    return Outcome(lines, facts, following=following)


@calls("files.scoring", _scored, stopped="stopped; `{again}` goes on", taken=_options)
def score(
    source: Sources,
    /,
    *,
    target: Folder,
    by: By = None,
    reward: Reward = None,
    estimator: Estimators = None,
    option: Annotated[list[str] | None, Parameter(negative="")] = None,
    layout: Layout = "wide",
    suffix: str = "",
    drop: Drop = None,
    keep: Keep = "all",
    threshold: Threshold = None,
    rollouts: str | None = None,
    memory_limit: str = "2GiB",
    resume: bool = True,
    split: Split = None,
    grades: Grades = None,
    allow_empty: AllowEmpty = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
) -> None:
    """Score completions in files: rank, percentile and advantage in their group.

    Parameters
    ----------
    option
        key=value of the estimator, such as scale=none; repeat the option for several.
    layout
        wide: all input columns and the scores; narrow: the scores alone.
    rollouts
        Column of ids of rollouts that gave several rows: a reward counts once.
    suffix
        Ending of the names of the new columns, so that a file can be scored twice.
    memory_limit
        Memory for ids and scores; beyond it they are sorted on disk.
    resume
        Continue where a killed run stopped.
    """


@command("stopped; nothing was changed", summarized=True)
def verify(
    source: Annotated[list[Path], Parameter(help="Folders or files that `gspo-rs score` wrote.")], /
) -> Outcome:
    """Check an output of `score` against its manifest."""
    from gspo_rs.files.scoring.read_back import verify as verify_output

    manifests = [verify_output(folder) for folder in source]
    files = sum(len(manifest.outputs) for manifest in manifests)
    rows = sum(manifest.kept for manifest in manifests)
    facts = {"verb": "verify", "files": files, "rows": rows}
    return Outcome([f"{counted(files, 'files')}, {counted(rows, 'rows')}: as written"], facts)
