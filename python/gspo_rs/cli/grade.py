"""`gspo-rs grade`: rewards of completions, from functions that may do anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from gspo_rs.cli.calls import calls
from gspo_rs.cli.grade_engines import Judging, ready_ones
from gspo_rs.cli.outcome import Outcome, counted
from gspo_rs.cli.parameters import (
    Completion,
    Numbers,
    OfParts,
    Overwrite,
    Prompt,
    Several,
    Sources,
    Split,
    Whole,
)

if TYPE_CHECKING:
    from gspo_rs.rewards.grading.run import GradeReport


def _listed(asked: Mapping[str, Any]) -> Outcome | None:
    if asked["list_"]:
        return ready_ones()
    if not asked["source"] or asked["target"] is None:
        raise ValueError("name what to grade, and a folder for the grades with -o")
    return None


def _taken(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the library: engines, and columns by the names they are handed on."""
    given = {name: value for name, value in chosen.items() if name not in ("judging", "list_")}
    columns = dict(map(_renamed, chosen.get("columns", ())))
    rewards = [one for text in chosen.get("reward") or () for one in text.split(",")]
    engines = chosen["judging"].engines()
    return given | {"engines": engines, "columns": columns, "reward": rewards}


def _renamed(text: str) -> tuple[str, str]:
    """Return the name under which a column is handed on, and its own."""
    name, equals, column = text.partition("=")
    return (name, column) if equals else (text, text)


def _graded(report: GradeReport, _: object) -> Outcome:
    kinds = ", ".join(f"{n:,} {status}" for status, n in report.status.items())
    lines = [f"{counted(report.rows, 'rows')}: {kinds}; {report.output}"]
    if report.skipped:
        lines[0] += f"; {report.skipped:,} of {counted(report.parts, 'parts')} were done"
    if len(report.rewards) > 1:
        for name, statuses in report.rewards.items():
            lines.append(f"{name}: {', '.join(f'{n:,} {one}' for one, n in statuses.items())}")
    for name, means in report.metrics.items():
        lines += [f"{name}: mean {metric} {mean:.4g}" for metric, mean in means.items()]
    return Outcome(
        lines, {"verb": "grade", **asdict(report)}, following=["scan", str(report.output)]
    )


@calls(
    "rewards.grading.run",
    _graded,
    stopped="stopped; `{again}` goes on",
    taken=_taken,
    instead=_listed,
)
def grade(
    source: Annotated[Sources, Parameter(show_default=False)] = [],  # noqa: B006 -- not changed
    /,
    *,
    target: Annotated[Path | None, OfParts] = None,
    reward: Several = None,
    reward_weights: Numbers = None,
    prompt: Prompt = None,
    completion: Completion = None,
    columns: Annotated[list[str] | None, Parameter(name="--pass", negative="")] = None,
    by: Several = None,
    key: Several = None,
    timeout: float = 10.0,
    start_timeout: float = 60.0,
    workers: Whole | None = None,
    sandbox: Literal["process", "bwrap"] = "process",
    memory: str = "4GiB",
    chunk: Whole = 1,
    on_failure: Literal["none", "error"] = "none",
    max_failed: str = "1%",
    resume: bool = True,
    split: Split = None,
    overwrite: Overwrite = False,
    judging: Judging = Judging(),  # noqa: B008 -- frozen
    list_: Annotated[bool, Parameter(name="--list", negative="", show_default=False)] = False,
) -> None:
    """Grade completions by reward functions that may hang, crash, exit or take all memory.

    Parameters
    ----------
    reward
        Reward function, file.py:function or module:function; of several joined by commas, or repeat
        the option.
    reward_weights
        Weight of each reward in the sum, likewise; 1 by default.
    columns
        Columns that the functions get, as NAME or NAME=COLUMN; joined by commas, or repeat it.
    by
        Columns that name a row's group; joined by commas, or repeat the option.
    key
        Columns that name a row in its group; file and row number by default.
    timeout
        Seconds for a call; then its process is killed.
    start_timeout
        Seconds for loading the functions.
    workers
        Processes; as many as there are processors by default.
    sandbox
        bwrap: each process without network, and with nothing to write on but an empty /tmp.
    memory
        Memory of each process for data.
    chunk
        Rows of a call; what is wrong with one of several is found row by row.
    on_failure
        none: a row that fails has no reward, and a status; error: it ends the run.
    max_failed
        Rows that may fail, a share or a number; beyond it the run stops with exit code 3.
    resume
        Continue where a stopped run was.
    list_
        List the ready rewards, with what they need, and grade nothing.
    """
