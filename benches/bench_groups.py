"""Group statistics of every row against what else could be picked, in one run, on equal results.

    python benches/bench_groups.py --suite goals       # 20 million rows against Polars streaming
    python benches/bench_groups.py --suite short       # goals, every rival at 10^5 rows, growth
    python benches/bench_groups.py --suite full        # every rival at 10^5 to 10^8 rows, growth
    python benches/bench_groups.py --suite ids         # goals with ids of every kind, and lists
    python benches/bench_groups.py --suite small       # the frames and DuckDB at 10^6 rows
    python benches/bench_groups.py [--rows 1000000] [--sizes 16 ragged] [--ids int64 string 36 …]
                                   [--layouts clustered shuffled lists] [--tasks all score …]
                                   [--only "gspo_rs namespace" "Polars streaming" …]

Prints Markdown. The kinds of ids are those of `group_tables.py`. A contender's first result is
checked against ours before anything is timed; then the contenders take turns, and the shortest of
each one's times is printed. The last line of a case is what copying the bytes costs: the input
and the outputs, read and written once. Growth is the time of one task from 10^5 rows upwards.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import shlex
import sys
from functools import partial

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from group_rivals import TASKS, Result, contenders, copying, ours
from group_tables import KINDS, table
from measurement import refuse_debug_build, turns
from results import commit, record

# Above these rows a contender would take most of the run, or more memory than there is.
ROWS_OF = {"plain loop": 2_000_000, "verl": 2_000_000, "NumPy": 10_000_000, "torch": 10_000_000}
ROWS_OF |= {"pandas": 20_000_000, "Polars in memory": 20_000_000, "DuckDB": 20_000_000}
SMALLEST = 100_000
GOALS = '--rows 20000000 --sizes 16 --tasks all percentile --only "Polars streaming"'
BOTH = '--only "gspo_rs namespace" "Polars streaming"'
IDS = f"--rows 20000000 --sizes 16 {BOTH} --layouts"
GROWTH = "--growth --sizes 16 --tasks all --rows"
FRAMES = '"Polars in memory" "Polars streaming" DuckDB pandas'
SUITES = {
    "small": [f"--rows 1000000 --sizes 16 --tasks all percentile --only {FRAMES}"],
    "goals": [GOALS],
    "ids": [
        f"{IDS} shuffled --ids int64 8 16 36 64 columns categorical --tasks all score percentile",
        f"{IDS} clustered --ids int64 8 16 36 64 columns categorical --tasks score percentile",
        f"{IDS} lists --ids int64 --tasks percentile zscore",
    ],
    "short": [GOALS, "--rows 100000 --sizes 4 16 64 ragged", f"{GROWTH} 10000000"],
    "full": [
        GOALS,
        "--rows 100000 1000000 --sizes 4 16 64 ragged",
        "--rows 10000000 --sizes 16 ragged --tasks all percentile --repeats 1",
        "--rows 100000000 --sizes 16 --ids int64 --tasks all --repeats 1",
        f"{GROWTH} 10000000",
    ],
}


def same(found: Result, expected: Result, name: str) -> None:
    for column, values in expected.items():
        message = f"{column} of {name}"
        np.testing.assert_allclose(found[column], values, rtol=1e-9, atol=1e-9, err_msg=message)


def fits(name: str, rows: int) -> bool:
    return all(rows <= most for start, most in ROWS_OF.items() if name.startswith(start))


def compare(options: argparse.Namespace, rows: int, task: str, size: str, kind: str) -> None:
    layout, ids = kind.split()
    frame = table(rows, size, layout, ids)
    equal = int(size) if layout == "clustered" and size != "ragged" else None
    chosen = contenders(task, equal, frame)
    if options.only:
        chosen = {name: c for name, c in chosen.items() if name in ("gspo_rs", *options.only)}
    runs = {}
    expected = ours(frame, task)
    for name, contender in chosen.items():
        if fits(name, rows):
            runs[name] = partial(contender, frame.to_pandas() if name == "pandas" else frame)
            same(runs[name](), expected, name)
    runs["(copy of the bytes)"] = partial(copying(frame, task), frame)
    del expected
    times = turns(runs, options.repeats)
    rivals = {name: took for name, took in times.items() if not name.startswith("(")}
    both = ["gspo_rs", "gspo_rs namespace"]
    record(f"groups: {task}, {size}, {kind}", rivals, ours=both, rows=rows)
    for name, took in times.items():
        ratio = took / times["gspo_rs"]
        print(f"| {rows:,} | {task} | {size} | {kind} | {name} | {took:.4f} | {ratio:.1f} |")
    sys.stdout.flush()


def grow(options: argparse.Namespace, most: int, task: str, size: str, kind: str) -> None:
    """Print time per row from `SMALLEST` rows to `most`, in steps of about 3."""
    names = ["gspo_rs", *(options.only or ["Polars streaming"])]
    steps = [SMALLEST * 10**decade * lead for decade in range(4) for lead in (1, 3)]
    for rows in [step for step in steps if step <= most]:
        frame = table(rows, size, *kind.split())
        chosen = contenders(task, None, frame)
        times = turns({name: partial(chosen[name], frame) for name in names}, options.repeats)
        record(f"groups, growth: {task}, {size}, {kind}", times, ours=["gspo_rs"], rows=rows)
        for name, took in times.items():
            line = f"| {task} | {size} | {kind} | {name} | {rows:,} | {took:.4f}"
            print(f"{line} | {took / rows * 1e9:.1f} |", flush=True)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=list(SUITES), help="a list of such runs")
    parser.add_argument("--rows", nargs="+", type=int, default=[1_000_000])
    parser.add_argument("--sizes", nargs="+", default=["16"], help="4, 16, 64, … or ragged")
    parser.add_argument("--layouts", nargs="+", default=["clustered", "shuffled"])
    parser.add_argument("--ids", nargs="+", default=["int64", "string"], choices=KINDS)
    parser.add_argument(
        "--tasks", nargs="+", default=["all", "zscore", "percentile"], choices=list(TASKS)
    )
    parser.add_argument("--only", nargs="+", help="rivals, by the names of the table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="time over rows")
    return parser.parse_args(words)


def run(options: argparse.Namespace) -> None:
    if options.growth:
        print("\n| task | size | ids | contender | rows | seconds | ns per row |")
        print("|---|---|---|---|---:|---:|---:|")
    else:
        print("\n| rows | task | size | ids | contender | seconds | times ours |")
        print("|---:|---|---|---|---|---:|---:|")
    kinds = [f"{layout} {ids}" for layout in options.layouts for ids in options.ids]
    step = grow if options.growth else compare
    for case in itertools.product(options.rows, options.tasks, options.sizes, kinds):
        step(options, *case)


def main() -> None:
    options = arguments()
    refuse_debug_build()
    print(
        f"Seed 0, commit {commit()}, {platform.machine()}, "
        f"{pl.thread_pool_size()} threads, Polars {pl.__version__}, DuckDB {duckdb.__version__}, "
        f"pandas {pd.__version__}, NumPy {np.__version__}; shortest of {options.repeats}"
    )
    if options.suite is None:
        run(options)
    for line in SUITES.get(options.suite, []):
        run(arguments(shlex.split(line)))


if __name__ == "__main__":
    main()
