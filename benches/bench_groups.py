"""Group statistics of every row against Polars and DuckDB, in one run, on equal results.

    python benches/bench_groups.py [--rows 20000000] [--size 16] [--repeats 3]

Every contender gets an id and a reward per row and returns mean, standard deviation, rank,
percentile and z-score for every row, in row order. Its first result is checked against ours
before anything is timed; the median of the repeats is printed. The last line is what copying
the same bytes costs: the input and the five outputs, read and written once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import duckdb
import numpy as np
import polars as pl

import gspo_rs as gs

EPS = 1e-6
COLUMNS = ["mean", "std", "rank", "percentile", "zscore"]
Result = dict[str, np.ndarray]


def ours(frame: pl.DataFrame) -> Result:
    zscore = {"estimator": "zscore", "ddof": 1, "eps": EPS}
    specs = ["group_mean", "group_std", ("rank", {"method": "average"}), "percentile"]
    columns = gs.rows(frame["reward"], gs.Groups(frame["id"]), [*specs, ("advantage", zscore)])
    return dict(zip(COLUMNS, columns, strict=True))


def polars(frame: pl.DataFrame, engine: str) -> Result:
    reward, by = pl.col("reward"), "id"
    lazy = frame.lazy().with_columns(
        mean=reward.mean().over(by),
        std=reward.std().over(by),
        rank=reward.rank("average").over(by),
        size=pl.len().over(by),
    )
    lazy = lazy.select(
        "mean",
        "std",
        "rank",
        percentile=(pl.col("rank") - 1) / (pl.col("size") - 1),
        zscore=(reward - pl.col("mean")) / (pl.col("std") + EPS),
    )
    return {name: lazy_column.to_numpy() for name, lazy_column in collected(lazy, engine)}


def collected(lazy: pl.LazyFrame, engine: str) -> list[tuple[str, pl.Series]]:
    return [(series.name, series) for series in lazy.collect(engine=engine).get_columns()]


def duck(frame: pl.DataFrame) -> Result:
    frame = frame.with_row_index("row")
    query = f"""
        select mean, std, rank, (rank - 1) / (size - 1) as percentile,
               (reward - mean) / (std + {EPS}) as zscore
        from (
            select row, reward, avg(reward) over g as mean, stddev_samp(reward) over g as std,
                   count(*) over g as size,
                   rank() over (partition by id order by reward)
                   + (count(*) over (partition by id, reward) - 1) / 2.0 as rank
            from frame window g as (partition by id)
        )
        order by row
    """
    return duckdb.sql(query).fetchnumpy()


def copied(frame: pl.DataFrame) -> Result:
    reward, ids = frame["reward"].to_numpy(), frame["id"].to_numpy()
    arrays = [ids.copy(), *(reward.copy() for _ in COLUMNS)]
    return dict(zip(COLUMNS, arrays[1:], strict=True))


def same(found: Result, expected: Result) -> None:
    for name in COLUMNS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def seconds(
    contender: Callable[[pl.DataFrame], Result], frame: pl.DataFrame, repeats: int
) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        contender(frame)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


CONTENDERS: dict[str, Callable[[pl.DataFrame], Result]] = {
    "gspo_rs": ours,
    "Polars in memory": lambda frame: polars(frame, "in-memory"),
    "Polars streaming": lambda frame: polars(frame, "streaming"),
    "DuckDB": duck,
}


def frames(rows: int, size: int) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(rows // size), size)
    reward = rng.integers(0, 11, len(ids)) / 10
    clustered = pl.DataFrame({"id": ids, "reward": reward})
    shuffled = pl.DataFrame({"id": ids[rng.permutation(len(ids))], "reward": reward})
    return {"clustered": clustered, "shuffled": shuffled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{options.rows:,} rows, groups of {options.size}, Polars {pl.__version__}, "
        f"DuckDB {duckdb.__version__}; median of {options.repeats}\n"
    )
    print("| ids | contender | seconds | times ours |")
    print("|---|---|---:|---:|")
    for layout, frame in frames(options.rows, options.size).items():
        expected = ours(frame)
        base = seconds(ours, frame, options.repeats)
        for name, contender in CONTENDERS.items():
            same(contender(frame), expected)
            took = base if contender is ours else seconds(contender, frame, options.repeats)
            print(f"| {layout} | {name} | {took:.2f} | {took / base:.1f} |", flush=True)
        took = seconds(copied, frame, options.repeats)
        print(f"| {layout} | (copy of the bytes) | {took:.2f} | {took / base:.1f} |", flush=True)


if __name__ == "__main__":
    main()
