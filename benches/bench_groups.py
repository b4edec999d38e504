"""Group statistics of every row against what else could be picked, in one run, on equal results.

    python benches/bench_groups.py [--rows 1000000] [--sizes 16 ragged] [--ids int64 string]
                                   [--tasks all zscore percentile] [--only "Polars streaming" …]
    python benches/bench_groups.py --growth --rows 100000000

Every contender gets an id and a reward per row. Its first result is checked against ours before
anything is timed; the median of the repeats is printed. The last line of a case is what copying
the bytes costs: the input and the outputs, read and written once. With `--growth`, the
time of one task from 10^5 rows upwards.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import time
from functools import partial

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from group_rivals import TASKS, Contender, Result, contenders, copying, ours

# A loop in Python takes microseconds a row; above this it would take most of the run.
LOOP_ROWS = 2_000_000
SMALLEST = 100_000


def table(rows: int, size: str, layout: str, ids: str) -> pl.DataFrame:
    """Make groups of `size` members, or of 2 to 62 if it is ragged; rewards have many ties."""
    rng = np.random.default_rng(0)
    if size == "ragged":
        sizes = rng.integers(2, 63, rows // 32)
    else:
        sizes = np.full(rows // int(size), int(size))
    codes = np.repeat(np.arange(len(sizes)), sizes)
    reward = rng.integers(0, 11, len(codes)) / 10
    if layout == "shuffled":
        codes = codes[rng.permutation(len(codes))]
    frame = pl.DataFrame({"id": codes, "reward": reward})
    if ids == "string":
        frame = frame.with_columns(pl.format("prompt/{}", pl.col("id")).alias("id"))
    return frame.rechunk()


def same(found: Result, expected: Result, name: str) -> None:
    for column, values in expected.items():
        message = f"{column} of {name}"
        np.testing.assert_allclose(found[column], values, rtol=1e-9, atol=1e-9, err_msg=message)


def seconds(contender: Contender, frame: pl.DataFrame | pd.DataFrame, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        contender(frame)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare(options: argparse.Namespace, task: str, size: str, layout: str, ids: str) -> None:
    frame = table(options.rows, size, layout, ids)
    equal = int(size) if layout == "clustered" and size != "ragged" else None
    expected = ours(frame, task)
    base = seconds(partial(ours, task=task), frame, options.repeats)
    chosen = contenders(task, equal)
    if options.only:
        chosen = {name: c for name, c in chosen.items() if name in ("gspo_rs", *options.only)}
    place = f"{task} | {size} | {layout} {ids}"
    for name, contender in chosen.items():
        if "loop" in name and options.rows > LOOP_ROWS:
            continue
        given = frame.to_pandas() if name == "pandas" else frame
        same(contender(given), expected, name)
        took = base if name == "gspo_rs" else seconds(contender, given, options.repeats)
        print(f"| {place} | {name} | {took:.3f} | {took / base:.1f} |", flush=True)
    took = seconds(copying(frame, task), frame, options.repeats)
    print(f"| {place} | (copy of the bytes) | {took:.3f} | {took / base:.1f} |", flush=True)


def grow(options: argparse.Namespace, task: str, layout: str, ids: str) -> None:
    """Print time per row from `SMALLEST` rows to `--rows`, in steps of about 3."""
    names = ["gspo_rs", *(options.only or ["Polars streaming"])]
    steps = [SMALLEST * 10**decade * lead for decade in range(4) for lead in (1, 3)]
    for rows in [step for step in steps if step <= options.rows]:
        frame = table(rows, options.sizes[0], layout, ids)
        for name in names:
            took = seconds(contenders(task, None)[name], frame, options.repeats)
            per_row = took / rows * 1e9
            print(f"| {task} | {layout} {ids} | {name} | {rows:,} | {took:.4f} | {per_row:.1f} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sizes", nargs="+", default=["16"], help="4, 16, 64, … or ragged")
    parser.add_argument("--layouts", nargs="+", default=["clustered", "shuffled"])
    parser.add_argument("--ids", nargs="+", default=["int64", "string"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--only", nargs="+", help="rivals, by the names of the table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="time over rows")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    print(
        f"{options.rows:,} rows, seed 0, commit {commit or 'unknown'}, {platform.machine()}, "
        f"{pl.thread_pool_size()} threads, Polars {pl.__version__}, DuckDB {duckdb.__version__}, "
        f"pandas {pd.__version__}, NumPy {np.__version__}; median of {options.repeats}\n"
    )
    if options.growth:
        print(
            "| task | ids | contender | rows | seconds | ns per row |\n|---|---|---|---:|---:|---:|"
        )
        for task in options.tasks:
            for layout in options.layouts:
                for ids in options.ids:
                    grow(options, task, layout, ids)
        return
    print("| task | size | ids | contender | seconds | times ours |\n|---|---|---|---|---:|---:|")
    for task in options.tasks:
        for size in options.sizes:
            for layout in options.layouts:
                for ids in options.ids:
                    compare(options, task, size, layout, ids)


if __name__ == "__main__":
    main()
