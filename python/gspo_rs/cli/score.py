"""`gspo-rs score` and `gspo-rs verify`: scored files written and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gspo_rs.cli.errors import command
from gspo_rs.cli.parameters import By, Layout, Overwrite, Reward, Threshold
from gspo_rs.cli.terminal import printable

if TYPE_CHECKING:
    from gspo_rs.files.scoring.manifest import Report


@command("stopped; `{again}` goes on")
def score(
    source: Annotated[list[str], Parameter(negative="")],
    target: Path,
    /,
    *,
    by: By,
    reward: Reward = "reward",
    estimator: str = "percentile",
    option: Annotated[list[str] | None, Parameter(negative="")] = None,
    layout: Layout = "wide",
    keep: str = "all",
    threshold: Threshold = None,
    memory_limit: str = "2GiB",
    resume: bool = True,
    overwrite: Overwrite = False,
) -> str:
    """Score completions in files: rank, percentile and advantage in their group.

    Parameters
    ----------
    source
        Files, globs, folders or URLs: Parquet, NDJSON, CSV or Arrow IPC, by suffix.
    target
        The output folder; an old one is kept until the new one is complete.
    estimator
        The advantage estimator, such as percentile, zscore or rloo.
    option
        key=value of the estimator, such as scale=none; repeat the option for several.
    layout
        wide: all input columns and the scores; narrow: the scores alone.
    keep
        Which rows to write, such as informative,top:0.25.
    memory_limit
        Memory for ids and scores; beyond it they are sorted on disk.
    resume
        Continue where a killed run stopped.
    """
    from gspo_rs.files.scoring import score as score_files

    report = score_files(
        source[0] if len(source) == 1 else source,
        target,
        by=by,
        reward=reward,
        estimator=estimator,
        layout=layout,
        keep=keep,
        memory_limit=memory_limit,
        resume=resume,
        overwrite=overwrite,
        **{"threshold": threshold} | dict(map(_option, option or [])),
    )
    return _scored(report)


@command("stopped; nothing was changed")
def verify(target: Path, /) -> str:
    """Check every file of an output against its manifest.

    Parameters
    ----------
    target
        The folder that `gspo-rs score` wrote.
    """
    from gspo_rs.files.scoring.read_back import verify as verify_output

    manifest = verify_output(target)
    return f"{len(manifest.outputs)} files, {manifest.kept:,} rows: as written\n"


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--option {text!r} is not key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _scored(report: Report) -> str:
    signal = report.groups - report.uninformative
    found = f"{report.rows:,} rows in {report.groups:,} groups, {signal:,} of them with signal"
    if report.kept != report.rows:
        found += f"; {report.kept:,} rows kept"
    if report.by_file and report.files > 1:
        found += "; each file by itself"
    if report.skipped:
        found += f"; {report.skipped} of {report.files} files were done"
    return f"{found}; {printable(str(report.output))}\n"
