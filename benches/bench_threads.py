"""Group statistics with one thread, a few, and more than there are cores.

    python benches/bench_threads.py [--rows 4000000] [--threads 1 2 8 16] [--repeats 3]

Every number of threads has a process of its own (`GSPO_RS_THREADS`), and the processes of a case
take turns. Printed are the shortest wall and CPU time of a call and the most memory that a process
held above its inputs. More threads than cores are no faster; they must not be slower, nor hold much
more: each has a table and scratch of its own, and what it frees stays with it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from group_rivals import ours
from group_tables import table
from measurement import answer, ask, refuse_debug_build, spending

CASES = ("clustered int64", "shuffled int64", "shuffled 36", "shuffled columns")
CALLS = 3


def measure(rows: int, case: str) -> dict[str, float]:
    """Call some times; what the first call of a process alone costs is not part of it."""
    frame = table(rows, "16", *case.split())
    ours(frame[:100_000], "all")
    with spending() as whole:
        calls = []
        for _ in range(CALLS):
            with spending() as call:
                ours(frame, "all")
            calls.append(call)
    wall, cpu = min(call.wall for call in calls), min(call.cpu for call in calls)
    added = max(call.peak for call in calls) - (whole.peak - whole.added)
    return {"wall": wall, "cpu": cpu, "added": added}


def compare(options: argparse.Namespace, case: str) -> None:
    found: dict[int, list[dict[str, float]]] = {n: [] for n in options.threads}
    for _ in range(options.repeats):
        for threads, runs in found.items():
            environment = {**os.environ, "GSPO_RS_THREADS": str(threads)}
            one = ["--rows", str(options.rows), "--case", case]
            runs.append(ask(str(Path(__file__)), *one, environment=environment))
    for threads, runs in found.items():
        wall, cpu = (min(run[key] for run in runs) for key in ("wall", "cpu"))
        added = max(run["added"] for run in runs)
        print(f"| {case} | {threads} | {wall:.3f} | {cpu:.3f} | {added:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 8, 16])
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    refuse_debug_build()
    if options.case:
        answer(measure(options.rows, options.case))
        return
    print(f"{options.rows:,} rows, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}\n")
    print("| ids | threads | wall s | CPU s | MiB above the inputs |\n|---|---:|---:|---:|---:|")
    for case in options.cases:
        compare(options, case)


if __name__ == "__main__":
    main()
