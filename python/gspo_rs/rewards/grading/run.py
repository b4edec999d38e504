"""Rewards for the completions of a source, in parts that a killed run takes up again."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from gspo_rs.data.progress import Pass, passes, under_way
from gspo_rs.data.schema import as_names
from gspo_rs.data.source import SourceLike
from gspo_rs.files.failures import FailureLimitError, allowed_failures
from gspo_rs.files.grades import MADE_BY
from gspo_rs.files.notebook import facts_html
from gspo_rs.files.parts import Parts, part_name, parts_in, unfinished
from gspo_rs.files.scoring.options import as_bytes
from gspo_rs.rewards.errors import GradingError
from gspo_rs.rewards.functions import titled
from gspo_rs.rewards.grading.engine import Engine, Slice
from gspo_rs.rewards.grading.function import (
    FunctionEngine,
    function_engines,
    functions_of,
    scorer_of,
    weights_of,
)
from gspo_rs.rewards.grading.limits import alike
from gspo_rs.rewards.grading.output import (
    Counts,
    graded_frame,
    is_failure,
    refuse_key_names,
)
from gspo_rs.rewards.grading.rows import Piece, Rows, Wanted, cuts_of, rows_of
from gspo_rs.rewards.sandbox import Sandbox
from gspo_rs.rewards.workers import GRADE_STATUSES, Grade

__all__ = ["GradeReport", "grade"]


@dataclass(frozen=True)
class GradeReport:
    """The result of a grading run.

    Attributes
    ----------
    output : Path
        The folder that was written.
    rows : int
        Rows graded, those of the run before too.
    parts, skipped : int
        Files of the output, and how many of them were whole from a run before.
    failed : int
        Rows that failed: they have no reward, and an ``error``.
    status : dict of str to int
        Rows of each status.
    rewards : dict of str to dict of str to int
        The same for each reward.
    metrics : dict of str to dict of str to float
        For each reward the mean of what its function has logged.
    """

    output: Path
    rows: int
    parts: int
    skipped: int
    failed: int
    status: dict[str, int]
    rewards: dict[str, dict[str, int]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        return facts_html("graded", vars(self))


@dataclass(frozen=True)
class _Run:
    """What a run grades, by what, and when it stops."""

    rows: Rows
    engines: Sequence[Engine]
    weights: Sequence[float]
    scorer: str
    on_failure: str
    allowed: int


def grade(
    source: SourceLike,
    target: str | Path,
    *,
    reward: str | Sequence[str] = (),
    engines: Sequence[Engine] = (),
    reward_weights: Sequence[float] | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    columns: Sequence[str] | Mapping[str, str] = (),
    by: str | Sequence[str] = (),
    key: str | Sequence[str] = (),
    timeout: float = 10.0,
    start_timeout: float = 60.0,
    workers: int | None = None,
    sandbox: Sandbox = "process",
    memory: int | str = "4GiB",
    chunk: int = 1,
    on_failure: Literal["none", "error"] = "none",
    max_failed: str | int = "1%",
    resume: bool = True,
    overwrite: bool = False,
) -> GradeReport:
    r"""Grade completions by reward functions that may hang, crash, exit or take all memory.

    Each function is called by a pool of processes, one row a call. What it does to its process
    costs its timeout and one row, which has a status instead of a reward.

    Parameters
    ----------
    source : path, glob, folder, address, sequence of these, LazyFrame or DataFrame
        Completions, one a row; what `gspo_rs.data.scan` takes.
    target : path
        The folder to write: files ``part-000000.parquet``, …, in the order of the rows, with the
        keys, ``reward`` (null: unscorable), ``reward_NAME`` for each reward, ``status``,
        ``error``, ``seconds``, ``attempts`` and ``scorer``; a ledger of them; a manifest.
    reward : str or sequence of str
        Reward functions with TRL's signature, as ``file.py:function`` or ``module:function``.
    engines : sequence of Engine, optional
        What else grades, after these. They are closed at the end.
    reward_weights : sequence of float, optional
        Weight of each reward in the sum, 1 by default. The sum leaves out rewards that are None;
        there is none if one failed.
    prompt, completion : str, optional
        Their columns: text, or lists of messages. Those of a tool that is known by default.
    columns : sequence of str, or mapping of str to str, optional
        Columns that are handed on as keyword arguments, under their own or other names.
    by : str or sequence of str, optional
        Columns that name the group of a row. They are keys too.
    key : str or sequence of str, optional
        Columns that name a row, of its group if that is named; ``file`` and ``row`` by default.
    timeout, start_timeout : float
        Seconds for a call, and for loading the functions.
    workers : int, optional
        Processes; as many as there are processors by default.
    sandbox : {"process", "bwrap"}
        Whether each process is in a sandbox of bubblewrap: no network, nothing to write on but an
        empty ``/tmp``.
    memory : int or str
        Bytes of data of each process, such as ``"2GiB"``.
    chunk : int
        Rows of a call. What is wrong with a call of several is found by calls of one each.
    on_failure : {"none", "error"}
        Whether a row that fails has no reward, or stops the run.
    max_failed : str or int
        Rows that may fail, as a number or a share such as ``"1%"``, before the run stops.
    resume : bool
        Whether to go on with what a run before has written.
    overwrite : bool
        Whether to start over in a folder that a run has written, which stays as it is until the
        new run is whole.

    Returns
    -------
    GradeReport

    Raises
    ------
    RewardError
        If a function cannot be loaded, or what it is given cannot be sent.
    GradingError
        If the first rows all raise the same, with its traceback; if a row fails and that is an
        error.
    FailureLimitError
        If more rows fail than may. The parts that are written stay.
    ValueError, TypeError, OSError
        If the rows cannot be read, two have one key, or the target holds something else.
    LockedError
        If another process writes there.

    Notes
    -----
    A row's reward does not depend on the rows beside it: its generators are seeded by its place.
    Rows are in memory some at a time; with `key`, or engines that compare groups, the keys of all.

    Examples
    --------
    >>> import tempfile
    >>> frame = pl.DataFrame({"completion": ["a", "bcd"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "reward.py"
    ...     _ = file.write_text("def brief(completions):\n    return [-len(completions[0])]")
    ...     report = grade(frame, Path(folder) / "out", reward=f"{file}:brief", workers=1)
    ...     pl.read_parquet(f"{folder}/out/*.parquet")["reward"].to_list(), report.status
    ([-1.0, -3.0], {'ok': 2})
    """
    handed = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
    keys = (as_names(by, "by") if by else ()), (as_names(key, "key") if key else ())
    rows = rows_of(source, Path(target), Wanted(*keys, prompt, completion, handed))
    limits: dict[str, Any] = {"timeout": timeout, "start_timeout": start_timeout}
    limits |= {"memory": as_bytes(memory, "memory"), "sandbox": sandbox}
    with ExitStack() as stack:
        for engine in engines:
            stack.callback(engine.close)
        named = functions_of(reward)
        made: list[Engine] = []
        if named:
            size = workers or os.cpu_count() or 1
            made = function_engines(named, size, chunk=chunk, prompts=rows.prompts, **limits)
            stack.callback(made[0].close)
        every = [*made, *engines]
        weights = weights_of([engine.name for engine in every], reward_weights)
        scorer = scorer_of(every, weights)
        allowed = allowed_failures(max_failed, rows.n_rows)
        run = _Run(rows, every, weights, scorer, on_failure, allowed)
        return _written(run, Path(target), resume=resume, overwrite=overwrite)


def _written(run: _Run, target: Path, *, resume: bool, overwrite: bool) -> GradeReport:
    rows = run.rows
    names = [engine.name for engine in run.engines]
    refuse_key_names(rows.keys, names, places=len(rows.keys) == rows.n_by)
    rows.check_keys()
    whole = any(engine.whole_groups for engine in run.engines)
    if whole and not rows.n_by:
        raise ValueError("a reward compares whole groups; name their columns with --by (by=…)")
    cuts = cuts_of(rows, whole_groups=whole)
    asked, noted = _asked(run, cuts, whole=whole), {"python": platform.python_version()}
    resumed = unfinished(target)
    with parts_in(
        target, asked, made_by=MADE_BY, noted=noted, resume=resume, overwrite=overwrite
    ) as parts:
        skipped, counts = len(parts.done), Counts()
        for entry in parts.done.values():
            counts.add(Counts.of(entry.facts))
        if not parts.manifest.complete:
            _resume(run.engines if resumed else ())
            _grade_parts(run, parts, cuts, counts, whole=whole)
            parts.complete({"rows": rows.n_rows, "parts": len(cuts) - 1, **counts.facts()})
        return _report(parts, rows.n_rows, skipped, counts)


def _resume(engines: Sequence[Engine]) -> None:
    """Tell engines that a run before has not ended: what it asked for last is not known."""
    for engine in engines:
        if (resume := getattr(engine, "resume", None)) is not None:
            resume()


def _asked(run: _Run, cuts: Any, *, whole: bool) -> dict[str, Any]:
    """Return what a run that takes this one up must ask for, too."""
    rows = run.rows
    said = [one.name for one in rows.said]
    return {
        "inputs": rows.inputs,
        "rows": rows.n_rows,
        "parts": len(cuts) - 1,
        "prompt": said[0] if rows.prompts else None,
        "completion": said[-1],
        "columns": dict(rows.columns),
        "by": list(rows.keys[: rows.n_by]),
        "key": list(rows.keys[rows.n_by :]),
        "rewards": [
            {"name": one.name, "kind": one.kind, "weight": weight, "scorer": one.scorer}
            for one, weight in zip(run.engines, run.weights, strict=True)
        ],
        "scorer": run.scorer,
        "whole_groups": whole,
    }


def _grade_parts(run: _Run, parts: Parts, cuts: Any, counts: Counts, *, whole: bool) -> None:
    """Grade the parts that are not done, in order, and write each when it is whole."""
    part = first = len(parts.done)
    held: list[pl.DataFrame] = []
    of_part, so_far = Counts(), counts
    at = int(cuts[first])
    total = run.rows.n_rows
    with under_way("grading", total) as bar:
        passes.advance(bar, at)
        for piece in run.rows.pieces(cuts, first, whole=whole):
            grades = _graded(run, piece, bar, so_far, trial=at == 0)
            frame, found = graded_frame(piece, grades, run.weights, run.scorer)
            of_part.add(found)
            held.append(frame)
            at += frame.height
            so_far = Counts()
            for one in (counts, of_part):
                so_far.add(one)
            if so_far.failed > run.allowed:
                such = _first_failure(grades, piece)
                raise FailureLimitError(_too_many(run, parts, at, so_far, such))
            if at == int(cuts[part + 1]):
                facts = {"first": int(cuts[part]), **of_part.facts()}
                parts.write(part_name(part), pl.concat(held), facts)
                counts.add(of_part)
                held, of_part, part = [], Counts(), part + 1


def _graded(
    run: _Run, piece: Piece, bar: Pass, so_far: Counts, *, trial: bool
) -> dict[str, Sequence[Grade]]:
    """Let each engine grade the rows of a piece."""
    found: dict[str, Sequence[Grade]] = {}
    for place, engine in enumerate(run.engines):
        last = place == len(run.engines) - 1
        with _shown(engine, bar, piece, so_far, last=last):
            if trial and not engine.whole_groups:
                grades = alike(engine, piece.slice)
            else:
                grades = list(engine.grade(piece.slice))
        if run.on_failure == "error":
            _refuse_failure(engine.name, grades, piece.slice)
        found[engine.name] = grades
    return found


@contextmanager
def _shown(
    engine: Engine, bar: Pass, piece: Piece, so_far: Counts, *, last: bool
) -> Iterator[None]:
    """Show how far the last of the engines is, and how many rows failed of each kind."""
    before, failures = bar.done, +so_far.status

    def show(grades: Sequence[Grade]) -> None:
        passes.advance(bar, len(grades))
        failures.update(grade.status for grade in grades)
        passes.note(bar, _failures(failures))

    if last and isinstance(engine, FunctionEngine):
        engine.progress = show
    yield
    if last:
        passes.advance(bar, piece.keys.height - (bar.done - before))


def _refuse_failure(name: str, grades: Sequence[Grade], rows: Slice) -> None:
    for row, found in enumerate(grades):
        if is_failure(found):
            raise GradingError(
                f"{titled(name)}: {found.status}, {found.error}; {rows.places[row]}", found.trace
            )


def _failures(status: Mapping[str, int]) -> str:
    """Return the rows without a reward by kind."""
    kinds = {name: status.get(name, 0) for name in GRADE_STATUSES if name not in ("ok", "skipped")}
    return ", ".join(f"{n:,} {name}" for name, n in kinds.items() if n)


def _first_failure(grades: Mapping[str, Sequence[Grade]], piece: Piece) -> str:
    """Return what a failure of these rows was, and where; empty if none failed."""
    for name, given in grades.items():
        for found, place in zip(given, piece.slice.places, strict=True):
            if is_failure(found):
                return f"{titled(name)}: {found.error}; {place}"
    return ""


def _too_many(run: _Run, parts: Parts, at: int, counts: Counts, first: str) -> str:
    such = f", such as {first}" if first else ""
    return (
        f"{counts.failed:,} of the first {at:,} rows failed ({_failures(counts.status)}{such}), and"
        f" {run.allowed:,} of {run.rows.n_rows:,} may; {len(parts.done)} parts in {parts.folder}"
        " stay, and the same command goes on; --max-failed (max_failed=…) lets more fail"
    )


def _report(parts: Parts, rows: int, skipped: int, counts: Counts) -> GradeReport:
    facts = counts.facts()
    means = {
        name: {metric: total / n for metric, (total, n) in metrics.items() if n}
        for name, metrics in counts.metrics.items()
        if metrics
    }
    return GradeReport(
        output=parts.folder,
        rows=rows,
        parts=len(parts.done),
        skipped=skipped,
        failed=counts.failed,
        status=facts["status"],
        rewards=facts["rewards"],
        metrics=means,
    )
