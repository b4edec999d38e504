"""Scoring ten million rows on a local Ray cluster of two nodes, and on the one machine.

    python benches/bench_ray.py --rows 10000000

Each node has one core, a scheduler, workers and an object store of its own. The scores of both ways
are compared bit by bit before a number is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measurement import answer, ask, refuse_debug_build, spending

import gspo_rs.polars  # noqa: F401
from gspo_rs.integrations.ray import COLUMNS, score

FILES = 10
BY = "prompt_id"


def generate(folder: Path, n_rows: int, n_bytes: int) -> None:
    """Write rows with hex digits as text, their groups of 16 scattered over all files."""
    draw = np.random.default_rng(0)
    for rows in np.array_split(np.arange(n_rows), FILES):
        ids = pl.Series(draw.integers(0, max(n_rows // 16, 1), rows.size))
        frame = pl.DataFrame({"row": rows, "reward": draw.integers(0, 11, rows.size) / 10})
        frame = frame.with_columns(("prompt-" + ids.cast(pl.String).str.zfill(9)).alias(BY))
        if n_bytes:
            text = [draw.bytes(n_bytes // 2).hex() for _ in range(rows.size)]
            frame = frame.with_columns(pl.Series("completion", text))
        frame.write_parquet(folder / f"{rows[0]:012}.parquet")


def digest(folder: Path) -> str:
    """Return one of the bits of all scores, row by row in their first order."""
    rows = pl.read_parquet(folder / "*.parquet", columns=["row", *COLUMNS]).sort("row")
    found = hashlib.sha256(rows["row"].to_numpy().tobytes())
    for name in COLUMNS:
        found.update(rows[name].to_numpy().tobytes())
    return found.hexdigest()


def on_one_machine(source: Path, target: Path) -> None:
    with spending() as spent:
        scores = pl.col("reward").gspo.score(by=BY, estimator="percentile")
        rows = pl.read_parquet(source / "*.parquet")
        rows.with_columns(scores.alias("score")).unnest("score").write_parquet(
            target / "all.parquet"
        )
    answer(spent)


def on_ray(source: Path, target: Path, *, partitions: int, store: int) -> None:
    """Score on two nodes; tell the seconds, the bytes of the shuffle and the nodes' peaks."""
    import ray
    from ray._common.utils import reset_ray_address
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": store << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    cluster.add_node(**size)
    reset_ray_address()  # or a `ray.init()` in another process joins this cluster
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    shuffled = count_shuffled()
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]

    with peaks(raylets) as held:
        start = time.perf_counter()
        dataset = ray.data.read_parquet(str(source))
        score(dataset, by=BY, partitions=partitions).write_parquet(str(target))
        wall = time.perf_counter() - start
    ray.shutdown()
    cluster.shutdown()
    answer({"wall": wall, "shuffled": sum(shuffled), "head": held[0], "second": held[1]})


def count_shuffled() -> list[int]:
    """Return a list that gets the stored bytes of each shard of the shuffle.

    The statistics of Ray tell the bytes before compression; only the step that receives the shards
    knows what they take in the object store, which is what travels.
    """
    import ray
    from ray.data._internal.execution.operators.shuffle_operators import shuffle_map_operator

    operator: Any = shuffle_map_operator.ShuffleMapOp
    done, found = operator._handle_map_done, []

    def counted(self: Any, task: int, shards: list[Any], bundles: list[Any]) -> None:
        places = ray.experimental.get_object_locations(shards)
        found.extend(place["object_size"] for place in places.values())
        done(self, task, shards, bundles)

    operator._handle_map_done = counted
    return found


@contextmanager
def peaks(roots: list[int]) -> Iterator[list[float]]:
    """Look twice a second at the memory of processes and all they started: MiB at the peak.

    What processes share, the object store above all, is counted once (`Pss`).
    """
    most, over = [0.0] * len(roots), threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            for i, root in enumerate(roots):
                most[i] = max(most[i], sum(map(proportional, family(root))))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    yield most
    over.set()
    watcher.join()


def family(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            for child in path.read_text().split():
                yield from family(int(child))


def proportional(pid: int) -> float:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(text.split("Pss:")[1].split()[0]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--bytes", type=int, default=0, help="of text in each row")
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--store", type=int, default=1024, help="MiB of each node's object store")
    parser.add_argument("--run", choices=("one", "ray"))
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    options = parser.parse_args()
    refuse_debug_build()
    if options.run == "one":
        on_one_machine(options.source, options.target)
    elif options.run:
        sizes = {"partitions": options.partitions, "store": options.store}
        on_ray(options.source, options.target, **sizes)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, one, two = (Path(folder) / name for name in ("source", "one", "ray"))
        for path in (source, one, two):
            path.mkdir()
        generate(source, options.rows, options.bytes)
        given = ("--partitions", str(options.partitions), "--store", str(options.store))
        alone = ask(__file__, "--run", "one", "--source", source, "--target", one)
        both = ask(__file__, "--run", "ray", "--source", source, "--target", two, *given)
        if digest(one) != digest(two):
            raise SystemExit("error: the scores of the two ways differ")
    print("| rows | way | seconds | peak, MiB | bytes of the shuffle a row |")
    print("|---:|---|---:|---:|---:|")
    print(f"| {options.rows:,} | one machine | {alone['wall']:.1f} | {alone['peak']:.0f} | |")
    held = f"{both['head']:.0f} + {both['second']:.0f}"
    per_row = both["shuffled"] / options.rows
    print(f"| | Ray, two nodes | {both['wall']:.1f} | {held} | {per_row:.1f} |")


if __name__ == "__main__":
    main()
