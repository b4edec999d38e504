"""Scoring five million completions in Parquet, against a plain copy, Polars and DuckDB.

    python benches/bench_score.py --rows 5000000

Every contestant runs in a process of its own, which reports its wall time, its CPU time and the
highest memory that it held. That all have found the same is asserted before a number is printed.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from measurement import answer, ask, refuse_debug_build, spending
from results import record

CHUNK = 200_000
PLACES = 1e-9


def generate(path, n_rows, n_bytes):
    """Rows of scattered string ids, eleven rewards and text that compresses like language."""
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (4096, 7), dtype=np.uint8).view("S7").ravel().astype(str)
    writer = None
    for start in range(0, n_rows, CHUNK):
        n = min(CHUNK, n_rows - start)
        words = letters[rng.zipf(1.3, (n, n_bytes // 8)) % 4096]
        frame = pl.DataFrame({f"w{i}": words[:, i] for i in range(words.shape[1])}).select(
            prompt_id="prompt-" + pl.Series(rng.integers(0, n_rows // 16, n)).cast(pl.String),
            reward=pl.Series(rng.integers(0, 11, n) / 10),
            completion=pl.concat_str(pl.all(), separator=" "),
        )
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()


def copy(source, target):
    pl.scan_parquet(source).sink_parquet(target / "out.parquet", compression="zstd")


def with_scores(rows):
    """Add the scores of a row to a LazyFrame, as one writes them in Polars."""
    reward, group = pl.col("reward"), "prompt_id"
    rank, n = reward.rank("average"), pl.len()
    beaten = (rank - 1) / (n - 1)
    share = pl.when(n > 1).then(beaten).otherwise(0.5)
    unit = (3 * (n - 1) / (n + 1)).sqrt()
    tied = reward.max() == reward.min()
    gain = pl.when(tied).then(0.0).otherwise((2 * share - 1) * unit)
    named = {
        "rank": rank,
        "percentile": share,
        "advantage": gain,
        "group_size": n,
        "group_mean": reward.mean(),
        "group_std": reward.std(),
    }
    scores = {name: column.over(group) for name, column in named.items()}
    return rows.with_columns(**scores)


def over(source, target):
    rows = with_scores(pl.scan_parquet(source))
    rows.sink_parquet(target / "out.parquet", compression="zstd")


def duckdb_query(source, target, *, told="prompt_id, reward, completion", memory=None):
    """Score by DuckDB into `target/out.parquet`, with temporary files beside it."""
    import duckdb

    group = "over (partition by prompt_id)"
    duckdb.sql(f"set temp_directory='{target}'")
    if memory:
        duckdb.sql(f"set memory_limit='{memory}'")
    duckdb.sql(
        f"""copy (
            with ranked as (
                select *, rank() over (partition by prompt_id order by reward)
                    + (count(*) over (partition by prompt_id, reward) - 1) / 2.0 as rank,
                    count(*) {group} as group_size, avg(reward) {group} as group_mean,
                    stddev_samp(reward) {group} as group_std
                from read_parquet('{source}'))
            select {told}, rank,
                case when group_size > 1 then (rank - 1) / (group_size - 1) else 0.5 end
                    as percentile,
                case when coalesce(group_std, 0) = 0 then 0 else
                    (2 * (rank - 1) / (group_size - 1) - 1)
                    * sqrt(3.0 * (group_size - 1) / (group_size + 1)) end as advantage,
                group_size, group_mean, group_std
            from ranked) to '{target}/out.parquet' (format parquet, compression zstd)"""
    )


def duckdb(source, target):
    duckdb_query(source, target)


def ours(source, target, layout, limit="2GiB"):
    import gspo_rs as gs

    gs.score(source, target / "out", by="prompt_id", layout=layout, memory_limit=limit)


OURS = ("wide", "narrow", "narrow, spilled")
CONTESTANTS = {
    "copy": copy,
    "wide": lambda source, target: ours(source, target, "wide"),
    "narrow": lambda source, target: ours(source, target, "narrow"),
    "narrow, spilled": lambda source, target: ours(source, target, "narrow", "192MiB"),
    "Polars over": over,
    "DuckDB": duckdb,
}


def measured(name, source, target):
    """Run one contestant in this process."""
    with spending() as spent:
        CONTESTANTS[name](source, target)
    answer(spent)


def run(name, source, target):
    target.mkdir(exist_ok=True)
    # What the one before has left to be written is none of this one's work.
    os.sync()
    return ask(__file__, "--run", name, "--source", source, "--target", target)


def sums(name, target):
    """Numbers that two outputs share only if their rows do, whatever their order."""
    import gspo_rs as gs

    rows = pl.scan_parquet(target / "out.parquet") if name in ("Polars over", "DuckDB") else None
    rows = gs.scan(target / "out") if rows is None else rows
    told = pl.col("rank", "percentile", "advantage", "group_size", "group_mean", "group_std")
    weight = pl.col("prompt_id").str.len_bytes() + pl.col("reward")
    return rows.select((told.cast(pl.Float64).fill_null(0) * weight).sum()).collect().row(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--bytes", type=int, default=300)
    parser.add_argument("--only", nargs="+", default=list(CONTESTANTS))
    parser.add_argument("--run")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    asked = parser.parse_args()
    refuse_debug_build()
    if asked.run:
        measured(asked.run, asked.source, asked.target)
        return
    with tempfile.TemporaryDirectory(dir=asked.target) as folder:
        source = asked.source or Path(folder) / "source.parquet"
        if asked.source is None:
            generate(source, asked.rows, asked.bytes)
        print(f"{source.stat().st_size >> 20} MiB of Parquet, load {os.getloadavg()[0]:.1f}")
        expected, seconds = None, {}
        for name in asked.only:
            target = Path(folder) / name.replace(" ", "-")
            spent = run(name, source, target)
            if name != "copy":
                found = sums(name, target)
                expected = expected or found
                np.testing.assert_allclose(found, expected, rtol=PLACES)
            seconds[name] = wall = spent["wall"]
            cells = f"{name:16} {wall:7.1f} s {spent['cpu']:7.1f} s CPU {spent['peak']:7.0f} MiB"
            print(cells, flush=True)
        record("score", seconds, ours=OURS, rows=asked.rows)


if __name__ == "__main__":
    main()
