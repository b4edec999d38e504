"""Calls an empty reward for each row in two processes, against pools that contain nothing.

    python benches/bench_grade.py [--rows 20000] [--repeats 3]

The rivals are `ProcessPoolExecutor`, a row and 32 rows a task, and pebble, which kills what takes
too long, if it is installed. Only ours has a status for each row, limits and fresh interpreters.
All pools are started before the clock, and give the same rewards.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from measurement import refuse_debug_build, turns
from results import record

from gspo_rs.rewards.workers import Workers

SIZE = 2
REWARD = "def length(completions, **_):\n    return [float(len(one)) for one in completions]\n"


def rival(completion: str) -> float:
    return float(len(completion))


def contenders(texts: list[str], stack: ExitStack) -> dict[str, Callable[[], list[float]]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "reward.py").write_text(REWARD)
    workers = stack.enter_context(Workers({"length": f"{folder / 'reward.py'}:length"}, SIZE))
    plain = stack.enter_context(ProcessPoolExecutor(SIZE))
    rows = [{"completions": [text]} for text in texts]

    def ours(chunk: int) -> list[float]:
        return [grade.reward for grade in workers.grade("length", rows, chunk=chunk)]

    found = {
        "ours": lambda: ours(1),
        "ours, 32 a call": lambda: ours(32),
        "executor": lambda: list(plain.map(rival, texts)),
        "executor, 32 a task": lambda: list(plain.map(rival, texts, chunksize=32)),
    }
    if find_spec("pebble"):
        from pebble import ProcessPool

        pool = stack.enter_context(ProcessPool(SIZE))

        def pebble() -> list[float]:
            tasks = [pool.schedule(rival, args=[text], timeout=60) for text in texts]
            return [task.result() for task in tasks]

        found["pebble"] = pebble
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    refuse_debug_build()
    texts = ["x" * (row % 50) for row in range(args.rows)]
    with ExitStack() as stack:
        runs = contenders(texts, stack)
        expected = [float(len(text)) for text in texts]
        for name, run in runs.items():
            if run() != expected:
                sys.exit(f"error: {name} gives other rewards")
        seconds = turns(runs, args.repeats)
    print(f"load {os.getloadavg()[0]:.1f}")
    for name, spent in seconds.items():
        print(f"{name:20} {args.rows / spent:10,.0f} rows a second")
    one = {name: seconds[name] for name in seconds if "32" not in name}
    record("grade: a row a call", one, ours=["ours"], rows=args.rows)
    several = {name: seconds[name] for name in seconds if "32" in name}
    record("grade: 32 rows a call", several, ours=["ours, 32 a call"], rows=args.rows)


if __name__ == "__main__":
    main()
