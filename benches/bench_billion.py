"""Scoring up to a billion scattered rows beyond memory, against DuckDB and Polars' streaming.

    python benches/bench_billion.py --rows 10_000_000 100_000_000 --folder DISK
    python benches/bench_billion.py --rows 100_000_000 --only wide --texts different --folder DISK

Shards of ten million rows: ids of 16 bytes, about 17 rows a group which lie anywhere, rewards of
eleven values. Texts of 300 bytes, if there are any, are 100,000 `repeated` ones, or `different`
ones, which begin with the number of their row. Each contestant runs in a process of its own. The
scores of a thousandth of the groups are computed again by Polars and compared row by row before a
number is printed.
"""

import argparse
import os
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from bench_score import duckdb_query, with_scores
from measurement import answer, ask, refuse_debug_build, spending

SHARD = 10_000_000
PER_GROUP = 17
DIGITS = 9
LIMIT = "2GiB"
TEXTS, WORDS, PER_TEXT = 100_000, 4096, 38
# Rows that are generated at a time: with texts they take memory.
PART = 1_000_000
SOURCE, TARGET = "source", "out"
SCORES = ["rank", "percentile", "advantage", "group_size", "group_mean", "group_std"]


def generate(folder, n_rows, texts):
    """Write the shards, a part at a time: names of groups as people have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, n_rows, SHARD):
        rng = np.random.default_rng(start)
        n = min(SHARD, n_rows - start)
        ids = rng.integers(0, max(1, n_rows // PER_GROUP), n)
        frame = pl.DataFrame({"reward": rng.integers(0, 11, n) / 10, "id": ids})
        number = pl.col("id").cast(pl.String).str.zfill(DIGITS)
        frame = frame.select(prompt_id="prompt-" + number, reward="reward")
        path = folder / f"{start // SHARD:05}.parquet"
        if texts == "none":
            frame.write_parquet(path)
        else:
            write_with_texts(frame, start, path, different=texts == "different")


def write_with_texts(frame, first, path, *, different):
    """Write a shard whose texts are drawn from a pool, or also have the number of their row."""
    import pyarrow.parquet as pq

    known, rng, writer = pool(), np.random.default_rng(first + 1), None
    for start in range(0, frame.height, PART):
        part = frame[start : start + PART]
        text = known.gather(rng.integers(0, TEXTS, part.height))
        if different:
            row = pl.int_range(first + start, first + start + part.height, eager=True)
            text = row.cast(pl.String) + " " + text
        table = part.with_columns(completion=text).to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=1 << 18)
    writer.close()


def pool():
    """Texts of words, the common ones of which are common as in a language."""
    rng = np.random.default_rng(0)
    words = rng.integers(97, 123, (WORDS, 7), dtype=np.uint8).view("S7").ravel().astype(str)
    drawn = words[rng.zipf(1.3, (TEXTS, PER_TEXT)) % WORDS]
    return pl.Series([" ".join(row) for row in drawn])


def ours(source, target, layout):
    import gspo_rs as gs

    gs.score(source, target, by="prompt_id", layout=layout, memory_limit=LIMIT)


def streaming(source, target):
    target.mkdir()
    with_scores(pl.scan_parquet(source)).drop("prompt_id").sink_parquet(target / "out.parquet")


def duckdb(source, target):
    target.mkdir()
    query = f"{source}/*.parquet"
    duckdb_query(query, target, told="reward", memory=LIMIT)


CONTESTANTS = {
    "narrow": partial(ours, layout="narrow"),
    "wide": partial(ours, layout="wide"),
    "Polars streaming": streaming,
    "DuckDB": duckdb,
}


class DiskUsed(threading.Thread):
    """The most bytes of a disk that are taken meanwhile, beside those that were before."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.most, self.over = folder, 0, threading.Event()
        self.before = shutil.disk_usage(folder).used

    def run(self):
        while not self.over.wait(0.5):
            self.most = max(self.most, shutil.disk_usage(self.folder).used - self.before)


def measured(name, folder):
    """Run one contestant in this process."""
    disk = DiskUsed(folder)
    disk.start()
    with spending() as spent:
        CONTESTANTS[name](folder / SOURCE, folder / TARGET)
    disk.over.set()
    answer({"wall": spent.wall, "cpu": spent.cpu, "peak": spent.peak, "disk": disk.most / 2**30})


def check(folder):
    """Compare the groups whose names end in 007 with what Polars says of them."""
    some = pl.col("prompt_id").str.ends_with("007")
    files = sorted((folder / SOURCE).iterdir())
    # As numbers: a column of some texts of a file keeps all of them in memory.
    number = pl.col("prompt_id").str.slice(len("prompt-")).cast(pl.Int64)
    found = pl.concat(
        pl.concat(
            [
                pl.read_parquet(file, columns=["prompt_id", "reward"]),
                pl.read_parquet(folder / TARGET / file.name, columns=SCORES),
            ],
            how="horizontal",
        )
        .filter(some)
        .with_columns(number)
        for file in files
    )
    expected = with_scores(found.lazy().select("prompt_id", "reward")).collect()
    assert found.height
    for name in SCORES:
        ours, theirs = (frame[name].cast(pl.Float64).to_numpy() for frame in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=name)
    return found.height


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[10**7])
    parser.add_argument(
        "--only", nargs="+", default=[name for name in CONTESTANTS if name != "wide"]
    )
    parser.add_argument("--texts", choices=["none", "repeated", "different"], default="none")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--run")
    asked = parser.parse_args()
    refuse_debug_build()
    if asked.run:
        measured(asked.run, asked.folder)
        return
    print("| rows | contestant | wall s | CPU s | ns CPU a row | peak MiB | disk GiB | load |")
    print("|---|---|---|---|---|---|---|---|")
    for n_rows in asked.rows:
        kind = "" if asked.texts == "none" else f"-{asked.texts}"
        folder = asked.folder / f"{n_rows}{kind}"
        began = time.perf_counter()
        if not (folder / SOURCE).exists():
            generate(folder / SOURCE, n_rows, asked.texts)
        size = sum(path.stat().st_size for path in (folder / SOURCE).iterdir())
        print(f"{n_rows:,} rows, {size / 2**30:.2f} GiB, {time.perf_counter() - began:.0f} s")
        for name in asked.only:
            os.sync()
            load = os.getloadavg()[0]
            spent = ask(__file__, "--run", name, "--folder", folder)
            if name in ("narrow", "wide"):
                print(f"{check(folder):,} rows compared")
            shutil.rmtree(folder / TARGET)
            cells = f"| {n_rows:,} | {name} | {spent['wall']:.1f} | {spent['cpu']:.1f} "
            cells += f"| {spent['cpu'] / n_rows * 1e9:.0f} | {spent['peak']:.0f} "
            print(f"{cells}| {spent['disk']:.2f} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main()
