"""What one call costs at the size of a training step, against what one would write in its place.

    python benches/bench_calls.py                  # every estimator, 10^3 and 10^4 rows
    python benches/bench_calls.py --small          # a few of them
    python benches/bench_calls.py --tasks zscore --rows 1000 --sizes 8 --libraries torch

Groups of one size: consecutive rows without ids (`group_size`), or scattered rows with ids that are
integers or strings of up to 12 bytes. Rewards and results are of NumPy (float64), PyTorch (float32)
or Polars (float64); ids of strings are a list beside the first two. Results are compared, then the
contenders take turns on one thread: the least microseconds of many calls. Prints Markdown: how many
times ours the best rival takes and, in brackets, ours.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from call_rivals import DRAWS, FORMULAS, SEVERAL, TAU, Q, rivals
from measurement import refuse_debug_build, turns
from results import commit, record

import gspo_rs as gs

KINDS = ("", "int64", "string")
LIBRARIES = ("NumPy", "torch", "Polars")
SMALL = ("rank()", "percentile", "zscore")
# Seconds of a contender's turn: tens of calls and more.
TURN = 0.01
OPTIONS: dict[str, dict[str, Any]] = {
    "top_fraction": {"q": Q},
    "soft_winrate": {"tau": TAU},
    "pass_at_k": {"k": DRAWS},
    "pkpo": {"k": DRAWS},
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"rank()": gs.rank, "percentile()": gs.percentile}


def data(task: str, rows: int, size: int, kind: str, library: str) -> list[Any]:
    """Make ids, rewards with many ties and, for `opo`, lengths."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(10**6)[: rows // size].repeat(size)
    order = rng.permutation(rows)
    # In eighths, which float32 holds, or in tenths, which are rounded.
    rewards = rng.integers(0, 11, (rows, 2)) / (8 if library == "torch" else 10)
    given: list[Any] = [rewards if task in SEVERAL else rewards[:, 0].copy()]
    if task == "opo":
        given.append(rng.integers(1, 999, rows))
    ids: Any = codes[order]
    if kind == "string":
        ids = [f"train/{one}" for one in ids.tolist()]
    if library == "Polars":
        return [pl.Series(ids), *map(pl.Series, given)]
    if library == "torch":
        ids = torch.from_numpy(ids) if kind != "string" else ids
        return [ids, *(torch.from_numpy(one) for one in [given[0].astype(np.float32), *given[1:]])]
    return [ids, *given]


def ours(task: str, size: int, kind: str, ids: Any, rewards: Any, *more: Any) -> Any:
    options = dict(OPTIONS.get(task, {}), **({"lengths": more[0]} if more else {}))
    if task not in FUNCTIONS:
        options["estimator"] = task
    call = FUNCTIONS.get(task, gs.advantage)
    return call(rewards, ids, **options) if kind else call(rewards, group_size=size, **options)


def compare(task: str, rows: int, size: int, kind: str, library: str, repeats: int) -> str:
    """Time one cell; return how many times ours the best rival takes."""
    given = data(task, rows, size, kind, library)
    runs: dict[str, Callable[[], Any]] = {"gspo_rs": partial(ours, task, size, kind, *given)}
    for name, rival in rivals(task, size, kind, library).items():
        runs[name] = partial(rival, *given)
    expected = np.asarray(runs["gspo_rs"](), dtype=np.float64)
    exact = 1e-4 if library == "torch" else 1e-9
    for name, run in runs.items():
        found = np.asarray(run(), dtype=np.float64)
        np.testing.assert_allclose(found, expected, exact, exact, err_msg=f"{task} by {name}")
    times = turns(runs, repeats, turn=TURN)
    name = f"calls: {task}, {size}, {kind or 'no'} ids, {library}"
    record(name, times, ours=["gspo_rs"], rows=rows)
    mine = times.pop("gspo_rs")
    return f"{min(times.values()) / mine:.1f} ({mine * 1e6:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tasks", nargs="+", default=list(FORMULAS), choices=list(FORMULAS))
    parser.add_argument("--rows", nargs="+", type=int, default=[1_000, 10_000])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2, 8, 64])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    refuse_debug_build()
    torch.set_num_threads(1)
    tasks = SMALL if options.small else options.tasks
    print(f"Seed 0, commit {commit()}, load {os.getloadavg()[0]:.0f}, one thread\n")
    cells = list(itertools.product(options.kinds, options.sizes))
    heads = [f"{kind or 'no'} ids, {size}" for kind, size in cells]
    print(f"| rows | task | library | {' | '.join(heads)} |")
    print(f"|---:|---|---|{'---:|' * len(heads)}")
    for rows, task, library in itertools.product(options.rows, tasks, options.libraries):
        if task in SEVERAL and library == "Polars":
            continue  # a Series holds one reward
        size_of = [(rows - rows % size, size, kind) for kind, size in cells]
        found = [compare(task, *cell, library, options.repeats) for cell in size_of]
        print(f"| {rows:,} | {task} | {library} | {' | '.join(found)} |", flush=True)
    print(f"\nload {os.getloadavg()[0]:.0f} at the end")


if __name__ == "__main__":
    main()
