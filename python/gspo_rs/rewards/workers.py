"""A pool of processes that grade rows, whatever a reward function does to them.

Each worker is a persistent process with a fresh interpreter. Three rules keep every other row
exact. A row is blamed only for a worker that had no row before it: one that ends a worker which
others have used is graded again in a worker of its own. An answer bears the id of its row and a
nonce. A line too many ends the worker, and the row is graded again.
"""

from __future__ import annotations

import json
import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Literal, Self, get_args

from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.sandbox import Sandbox, refuse_unusable
from gspo_rs.rewards.worker_process import Row, Start, Worker, parsed

__all__ = ["GRADE_STATUSES", "STATUSES", "Grade", "Status", "Workers"]

Status = Literal["ok", "none", "timeout", "died", "memory", "error", "parse", "rate", "skipped"]
GRADE_STATUSES: tuple[Status, ...] = get_args(Status)
# Those of a pool.
STATUSES: tuple[Status, ...] = GRADE_STATUSES[:6]
_LOOK_EVERY = 0.05  # seconds; a worker that died while a fork of it keeps the channel is not heard
_STARTS = 3
_CLOSES_BEFORE_IT_ENDS = 1.0  # seconds


@dataclass(frozen=True)
class Grade:
    """What became of a row.

    Attributes
    ----------
    status : str
        ``ok``; ``none``, without a reward or with something that is none; ``timeout``; ``died``;
        ``memory``; ``error``, of what raises; of judges, ``parse``, a reply that cannot be read,
        and ``rate``, too many requests; ``skipped``, of a row without a completion.
    reward : float
        NaN unless ``ok``.
    error : str
        Why, in at most 200 characters; empty for a reward, None and NaN.
    metrics : mapping of str to list of float
        What was logged.
    extra : mapping of str to bool, float, str or None
        Likewise, the value of each column.
    seconds : float
        What the row took.
    attempts : int
        Calls that were made for it.
    trace : str
        The traceback of an exception, where it is kept.
    """

    status: Status
    reward: float = math.nan
    error: str = ""
    metrics: Mapping[str, list[float]] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    trace: str = ""


class _Batch:
    """Rows that are graded together, in calls of `chunk` of them."""

    def __init__(
        self,
        function: str = "",
        rows: Sequence[Mapping[str, Any]] = (),
        seeds: Sequence[int] = (),
        state: Mapping[str, Any] | None = None,
        chunk: int = 1,
    ) -> None:
        # The same in every message, so it is written once.
        self._rest = json.dumps({"function": function, "state": state})[:-1]
        self._rows, self._seeds = rows, seeds
        places = range(len(rows))
        self.waiting = deque(Row(tuple(places[at : at + chunk])) for at in places[::chunk])
        self.again: deque[Row] = deque()  # each in a worker of its own
        self.grades: list[Grade | None] = [None] * len(rows)
        self.missing = len(rows)
        self.fresh: list[Grade] = []

    def message(self, row: Row) -> str:
        """Return what is sent of a row, as JSON."""
        first = row.places[0]
        given = self._rows[first]
        for place in row.places[1:]:
            given = {name: [*values, *self._rows[place][name]] for name, values in given.items()}
        numbers = f'"seed": {self._seeds[first]}, "count": {len(row.places)}'
        return f'{self._rest}, {numbers}, "given": {json.dumps(given)}}}'

    def taken(
        self, worker: Worker, rows: deque[Row] | None = None, most: int | None = None
    ) -> list[tuple[Row, str]]:
        """Take as many rows as a worker may be given, each with what is sent of it."""
        rows = self.waiting if rows is None else rows
        found: list[tuple[Row, str]] = []
        size = 0
        if not rows or not worker.takes(1, 0) or worker.dead():
            return []
        while rows and len(found) != most and worker.takes(len(found) + 1, size):
            message = self.message(rows[0])
            size += len(message)
            if not worker.takes(len(found) + 1, size):
                break
            found.append((rows.popleft(), message))
        return found

    def done(self, row: Row, grades: Sequence[Grade]) -> None:
        for place, grade in zip(row.places, grades, strict=True):
            self.grades[place] = grade
        self.missing -= len(grades)
        self.fresh.extend(grades)

    def take_fresh(self) -> list[Grade]:
        """Return the grades that have come since this was last asked."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def divide(self, row: Row) -> None:
        """Grade the rows of a call one by one, before others."""
        again = [Row((place,), row.attempts + 1) for place in row.places]
        self.waiting.extendleft(reversed(again))


class Workers:
    """A pool of processes with the same reward functions.

    Parameters
    ----------
    functions : mapping of str to str
        By name, as ``file.py:function`` or ``module:function``. They are loaded in the workers
        only.
    size : int
        Processes, at least 1.
    timeout : float
        Seconds for a row.
    start_timeout : float
        Seconds for loading the functions.
    memory : int
        Bytes of data of each process.
    open_files : int
        Descriptors of each process.
    sandbox : {"process", "bwrap"}
        Whether each process is in a sandbox: no network, nothing to write on but an empty /tmp.

    Raises
    ------
    RewardError
        If a function cannot be loaded; as `gspo_rs.rewards.load`; or the sandbox cannot be used.
    GradingError
        If loading ends the process, or is not over in time.

    Examples
    --------
    >>> with Workers({"fmean": "statistics:fmean"}, 1) as workers:
    ...     [grade] = workers.grade("fmean", [{"data": [1.0, 2.0]}])
    >>> grade.status, grade.error
    ('none', 'answered a float, not a list of rewards')
    """

    def __init__(
        self,
        functions: Mapping[str, str],
        size: int,
        *,
        timeout: float = 10.0,
        start_timeout: float = 60.0,
        memory: int = 4 << 30,
        open_files: int = 256,
        sandbox: Sandbox = "process",
    ) -> None:
        refuse_unusable(sandbox)
        self._start = Start(functions, memory, open_files, start_timeout, sandbox)
        self._size, self._timeout = size, timeout
        self._workers: list[Worker] = []
        self._failed_starts, self._interrupted = 0, False
        self.parameters: dict[str, list[str] | None] = {}
        self.sources: dict[str, str] = {}
        self._finalizer = weakref.finalize(self, _end, self._workers, os.getpid())
        nothing = _Batch()
        try:
            while not self.parameters:
                self._staff()
                self._collect(nothing)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers and everything that they have started."""
        self._finalizer()

    def grade(
        self,
        function: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        seeds: Sequence[int] | None = None,
        state: Mapping[str, Any] | None = None,
        chunk: int = 1,
        progress: Callable[[Sequence[Grade]], None] | None = None,
    ) -> list[Grade]:
        """Call a function on each row.

        Parameters
        ----------
        function : str
            Its name.
        rows : sequence of mapping
            Keyword arguments of each call, of what JSON holds exactly.
        seeds : sequence of int, optional
            For the generators of Python, NumPy and torch in each call; 0 by default.
        state : mapping, optional
            Attributes of `trainer_state`, where the function asks for it.
        chunk : int
            Rows of a call, which has the time of one row; what is wrong with such a call is found
            by calls of one row each. Their arguments must be lists.
        progress : callable, optional
            Called with grades as they come, in any order.

        Returns
        -------
        list of Grade
            One for each row, in their order.

        Raises
        ------
        GradingError
            If workers that ended cannot be started again.
        """
        if not self._finalizer.alive:
            raise GradingError("the workers of reward functions are closed; make new ones")
        seeds = [0] * len(rows) if seeds is None else seeds
        batch = _Batch(function, rows, seeds, state, chunk)
        self._interrupted = False
        try:
            while batch.missing:
                if self._interrupted:
                    raise GradingError("the grading was interrupted by another thread")
                self._staff()
                self._hand_out(batch)
                self._collect(batch)
                if (fresh := batch.take_fresh()) and progress is not None:
                    progress(fresh)
        except BaseException:  # Ctrl-C: what is not awaited any more must not answer later
            for worker in [one for one in self._workers if one.row is not None]:
                self._retire(worker)
            raise
        return [grade for grade in batch.grades if grade is not None]

    def interrupt(self) -> None:
        """End what another thread is grading; rows that are under way end with their workers."""
        self._interrupted = True

    def _staff(self) -> None:
        while len(self._workers) < self._size:
            self._workers.append(Worker(self._start))

    def _hand_out(self, batch: _Batch) -> None:
        """Give rows to workers that have none or few; those to grade again only to new workers."""
        for worker in list(self._workers):
            if not worker.ready:
                continue
            alone = bool(batch.again) and worker.served == 0 and worker.row is None
            given = batch.taken(worker, batch.again, 1) if alone else batch.taken(worker)
            try:
                if given:
                    worker.give(given, self._timeout)
            except OSError:
                self._fail(batch, worker, "died")

    def _collect(self, batch: _Batch) -> None:
        """Wait for answers, ends and deadlines."""
        now = time.monotonic()
        waited = [one for one in self._workers if one.row is not None or not one.ready]
        nearest = min((one.deadline - now for one in waited), default=_LOOK_EVERY)
        channels = [worker.channel for worker in self._workers]
        heard = wait(channels, min(max(nearest, 0.0), _LOOK_EVERY))
        for worker in list(self._workers):
            lines = worker.read() if worker.channel in heard else []
            if lines is None or (not lines and worker.channel not in heard and worker.dead()):
                died = worker.dead(_CLOSES_BEFORE_IT_ENDS)
                self._fail(batch, worker, "died", "" if died else "closed its channel")
            elif lines:
                self._hear(batch, worker, lines)
            elif worker in waited and time.monotonic() >= worker.deadline:
                self._fail(batch, worker, "timeout")

    def _hear(self, batch: _Batch, worker: Worker, lines: list[bytes]) -> None:
        for line in lines:
            if not worker.ready:
                self._greet(worker, parsed(line))
                continue
            row, found = worker.row, worker.answer(line)
            grades = None if row is None or found is None else _grades(row, found)
            if row is None or found is None or grades is None:
                self._fail(batch, worker, "error", "wrote to the channel of the worker's answers")
                return
            if found.get("short"):
                self._fail(batch, worker, found["status"], found["error"])
                return
            worker.left = found["left"]
            worker.done(found["seconds"], self._timeout)
            if len(grades) < len(row.places):
                batch.divide(row)
            else:
                batch.done(row, grades)

    def _greet(self, worker: Worker, found: Mapping[str, Any]) -> None:
        """Note that a worker has loaded the functions."""
        if "refused" in found:
            raise RewardError(found["refused"])
        if "ready" in found:
            self.parameters, self.sources = found["ready"], found["sources"]
            worker.ready, self._failed_starts = True, 0

    def _fail(self, batch: _Batch, worker: Worker, status: Status, reason: str = "") -> None:
        """End a worker; blame its row only if that was the first, or nothing of others runs."""
        alone = worker.served == 0 or (status == "timeout" and not worker.left)
        ready, row, seconds = worker.ready, worker.row, time.monotonic() - worker.since
        batch.waiting.extendleft(reversed(worker.behind))
        fate = self._retire(worker)
        if not ready:
            self._failed_starts += 1
            if not self.parameters or self._failed_starts == _STARTS:
                raise GradingError(self._unstarted(status, fate))
        elif row is not None and len(row.places) > 1:
            batch.divide(row)
        elif row is not None and alone:
            late = f"gave no answer within {self._timeout:g} s"
            text = late if status == "timeout" else reason or f"the process {fate}"
            grade = Grade(status, error=text, seconds=seconds, attempts=row.attempts)
            batch.done(row, [grade])
        elif row is not None:
            batch.again.append(Row(row.places, row.attempts + 1))

    def _unstarted(self, status: Status, fate: str) -> str:
        functions = ", ".join(map(repr, self._start.functions.values()))
        if status == "timeout":
            return f"reward {functions} did not load within {self._start.timeout:g} s"
        return f"reward {functions}: the process that loads it {fate}"

    def _retire(self, worker: Worker) -> str:
        self._workers.remove(worker)
        return worker.end()


def _grades(row: Row, found: Mapping[str, Any]) -> list[Grade] | None:
    """Return what a worker has answered; fewer grades than rows if they must be graded one by one.

    None if it is no answer.
    """
    seconds, n = found.get("seconds"), len(row.places)
    rewards, extra = found.get("rewards"), found.get("extra", {})
    if not isinstance(seconds, float) or not isinstance(found.get("left"), bool):
        return None
    if isinstance(rewards, list) and len(rewards) == n:
        return [
            Grade(
                "none" if reward is None else "ok",
                math.nan if reward is None else reward,
                metrics={} if place else found["metrics"],
                extra={column: values[place] for column, values in extra.items()},
                seconds=seconds / n,
                attempts=row.attempts,
            )
            for place, reward in enumerate(rewards)
        ]
    status, error = found.get("status"), found.get("error")
    if status not in STATUSES or not isinstance(error, str):
        return None
    if n > 1:
        return []
    more = {column: values[0] for column, values in extra.items()}
    metrics, trace = found.get("metrics", {}), found.get("trace", "")
    rest = {"seconds": seconds, "attempts": row.attempts, "trace": trace}
    return [Grade(status, math.nan, error, metrics, more, **rest)]


def _end(workers: list[Worker], process: int) -> None:
    """Kill workers, but not those of the process that this one was forked from."""
    while workers and os.getpid() == process:
        workers.pop().end()
