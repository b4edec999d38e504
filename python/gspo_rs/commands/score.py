"""`gspo-rs score`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gspo_rs.commands.outcome import TOLD, interrupted, told
from gspo_rs.commands.parameters import By, Layout, Overwrite, Reward, Threshold, Verbose
from gspo_rs.terminal import printable

if TYPE_CHECKING:
    from gspo_rs.files.outcome import Report


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
    verbose: Verbose = False,
) -> int:
    """Score completions in files: rank, percentile and advantage in their group.

    Parameters
    ----------
    source
        Files, globs, folders or addresses: Parquet, NDJSON, CSV or Arrow IPC by suffix.
    target
        The folder of the output; one that is replaced stays until the new one is whole.
    estimator
        The advantage, such as percentile, zscore or rloo.
    option
        key=value of the estimator, such as scale=none; repeat it for several.
    layout
        All columns of the input with the scores, or the scores alone.
    keep
        Which rows to write, such as informative,top:0.25.
    memory_limit
        What ids and scores may take; beyond it they go through the disk.
    resume
        Go on where a run was killed.
    """
    from gspo_rs.files.score import score as score_files

    given = source[0] if len(source) == 1 else source
    try:
        options = {"threshold": threshold} | dict(map(_option, option or []))
        report = score_files(
            given,
            target,
            by=by,
            reward=reward,
            estimator=estimator,
            layout=layout,
            keep=keep,
            memory_limit=memory_limit,
            resume=resume,
            overwrite=overwrite,
            **options,
        )
    except KeyboardInterrupt:
        again = shlex.join(["gspo-rs", *sys.argv[1:]])
        return interrupted(f"stopped; `{again}` goes on")
    except TOLD as error:
        return told(error, verbose=verbose)
    sys.stdout.write(_told(report))
    return 0


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--option {text!r} is not key=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _told(report: Report) -> str:
    signal = report.groups - report.uninformative
    found = f"{report.rows:,} rows in {report.groups:,} groups, {signal:,} of them with signal"
    if report.kept != report.rows:
        found += f"; {report.kept:,} rows kept"
    if report.by_file and report.files > 1:
        found += "; each file by itself"
    if report.skipped:
        found += f"; {report.skipped} of {report.files} files were done"
    return f"{found}; {printable(str(report.output))}\n"
