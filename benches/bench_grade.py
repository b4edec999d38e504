"""Calls a reward for each row in two processes, against pools that contain nothing.

    python benches/bench_grade.py [--rows 20000] [--repeats 3] [--cpu] [--math FILE]

The reward is an empty one, or with a file of the columns `response` and `expected_answer`
`math_match`. The rivals are a plain loop, `ProcessPoolExecutor`, a row and 32 rows a task, and
pebble, which kills what takes too long, if it is installed. Only ours has a status for each row,
limits and fresh interpreters. All give the same rewards.

Without `--cpu` the clock is read, of pools that are started before. With it CPU seconds of all
processes are counted, those of the one that hands out apart, less those of a run of few rows; so a
busy machine moves them less, and `gspo-rs grade` as a whole is among the contenders.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl
from measurement import answer, ask, refuse_debug_build, turns
from results import record

import gspo_rs as gs
from gspo_rs.rewards.workers import Workers

SIZE, FEW = 2, 64
REWARD = "def length(completions, **_):\n    return [float(len(one)) for one in completions]\n"
MATH = "gspo_rs.rewards.library:math_match"
COMMAND = "ours, the whole command"


@dataclass(frozen=True)
class Task:
    """Rows, the reward that ours is given by name, and the function that rivals call of a row."""

    rows: list[dict[str, str]]
    spec: str
    rival: Callable[[dict[str, str]], float]


def length(row: dict[str, str]) -> float:
    return float(len(row["completion"]))


def verified(row: dict[str, str]) -> float:
    from math_verify import parse, verify

    return float(verify(parse(f"${row['answer']}$"), parse(row["completion"])))


def task_of(args: argparse.Namespace, folder: Path) -> Task:
    if args.math is None:
        (folder / "reward.py").write_text(REWARD)
        rows = [{"completion": "x" * (row % 50)} for row in range(args.rows)]
        return Task(rows, f"{folder / 'reward.py'}:length", length)
    found = pl.read_parquet(args.math, columns=["response", "expected_answer"]).drop_nulls()
    named = found.rename({"response": "completion", "expected_answer": "answer"}).cast(pl.String)
    return Task(named.head(args.rows).to_dicts(), MATH, verified)


def contenders(task: Task, stack: ExitStack) -> dict[str, Callable[[], Callable[[], list[float]]]]:
    """Return what starts each contender; what that returns grades all rows."""

    def pool(chunk: int) -> Callable[[], list[float]]:
        workers = stack.enter_context(Workers({"reward": task.spec}, SIZE))
        given = [
            {f"{k}s" if k == "completion" else k: [v] for k, v in row.items()} for row in task.rows
        ]
        return lambda: [grade.reward for grade in workers.grade("reward", given, chunk=chunk)]

    def executor(chunk: int) -> Callable[[], list[float]]:
        plain = stack.enter_context(ProcessPoolExecutor(SIZE))
        return lambda: list(plain.map(task.rival, task.rows, chunksize=chunk))

    found = {
        "ours": lambda: pool(1),
        "ours, 32 a call": lambda: pool(32),
        "executor": lambda: executor(1),
        "executor, 32 a task": lambda: executor(32),
    }
    if find_spec("pebble"):
        found["pebble"] = lambda: pebble(task, stack)
    return found


def pebble(task: Task, stack: ExitStack) -> Callable[[], list[float]]:
    from pebble import ProcessPool

    pool = stack.enter_context(ProcessPool(SIZE))

    def run() -> list[float]:
        tasks = [pool.schedule(task.rival, args=[row], timeout=60) for row in task.rows]
        return [one.result() for one in tasks]

    return run


def command(task: Task, folder: Path) -> list[float]:
    """Grade files by ours from their rows to the rewards that are written."""
    frame = pl.DataFrame(task.rows)
    columns = [name for name in frame.columns if name != "completion"]
    options = {"columns": columns, "workers": SIZE, "max_failed": "100%"}
    gs.grade(frame, folder / "out", reward=task.spec, overwrite=True, **options)
    return pl.read_parquet(folder / "out" / "*.parquet")["reward"].to_list()


def alone(name: str, task: Task, folder: Path) -> None:
    """Let one contender grade all rows, and answer what all processes have taken."""
    with ExitStack() as stack:
        if name == COMMAND:
            found = command(task, folder)
        elif name == "plain loop":
            found = [task.rival(row) for row in task.rows]
        else:
            found = contenders(task, stack)[name]()()
    own, started = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    (folder / "rewards.json").write_text(json.dumps(found))
    answer({"own": own.ru_utime + own.ru_stime, "others": started.ru_utime + started.ru_stime})


def counted(task: Task, args: argparse.Namespace, folder: Path) -> None:
    """Print the CPU time of each contender a row, the median of several turns."""
    names = ["plain loop", *contenders(task, ExitStack()), COMMAND]
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    expected = [task.rival(row) for row in task.rows]
    given = ["--math", args.math] if args.math else []
    for _ in range(args.repeats):
        for name in names:
            few, all_rows = (
                ask(__file__, "--alone", name, "--folder", folder, "--rows", str(n), *given)
                for n in (FEW, len(task.rows))
            )
            # Both write there, and all rows are the last.
            rewards = json.loads((folder / "rewards.json").read_text())
            if rewards != expected:
                sys.exit(f"error: {name} gives other rewards")
            spent[name].append((all_rows["own"] - few["own"], all_rows["others"] - few["others"]))
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, times in spent.items():
        own, others = (
            1e6 * statistics.median(t) / (len(task.rows) - FEW) for t in zip(*times, strict=True)
        )
        print(f"{name:24} {own + others:9,.1f} µs a row: {own:9,.1f} here, {others:9,.1f} there")


def clocked(task: Task, args: argparse.Namespace) -> None:
    with ExitStack() as stack:
        runs = {name: start() for name, start in contenders(task, stack).items()}
        expected = [task.rival(row) for row in task.rows]
        for name, run in runs.items():
            if run() != expected:
                sys.exit(f"error: {name} gives other rewards")
        seconds = turns(runs, args.repeats)
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, spent in seconds.items():
        print(f"{name:24} {len(task.rows) / spent:10,.0f} rows a second")
    kind = "math" if args.math else "grade"
    one = {name: seconds[name] for name in seconds if "32" not in name}
    record(f"{kind}: a row a call", one, ours=["ours"], rows=len(task.rows))
    several = {name: seconds[name] for name in seconds if "32" in name}
    record(f"{kind}: 32 rows a call", several, ours=["ours, 32 a call"], rows=len(task.rows))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--math")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    refuse_debug_build()
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        task = task_of(args, Path(made))
        if args.alone:
            alone(args.alone, task, Path(args.folder))
        elif args.cpu:
            counted(task, args, Path(made))
        else:
            clocked(task, args)


if __name__ == "__main__":
    main()
