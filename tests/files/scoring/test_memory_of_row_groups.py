"""What scoring holds at its highest for a file that is one row group."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import gspo_rs as gs
from gspo_rs.files import scoring
from gspo_rs.files.scoring import first_pass

STATUS = Path("/proc/self/status")
LIMIT = 400 << 20
SCRIPT = """
import re, sys
import polars as pl
import gspo_rs as gs

def kibibytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

path, out, limit = sys.argv[1:]
rows = pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0]})
gs.score(rows, out + "/first", by="id", layout="narrow")  # threads and imports
open("/proc/self/clear_refs", "w").write("5")  # forget the highest so far
before = kibibytes("VmRSS")
report = gs.score(path, out + "/scores", by="id", layout="narrow", memory_limit=int(limit))
print(report.rows, (kibibytes("VmHWM") - before) << 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the kernel tells the highest use on Linux only")
@pytest.mark.parametrize("text", [False, True], ids=["int64", "36 bytes"])
def test_one_row_group_of_many_rows_holds_nothing_beside_memory_limit(tmp_path, text):
    n, path = 12_000_000, tmp_path / "rows.parquet"
    ids = pl.Series("id", np.arange(n) // 16)
    if text:
        ids = ("prompt-of-some-data-set-" + ids.cast(pl.String).str.pad_start(12, "0")).alias("id")
    rewards = pl.Series("reward", np.random.default_rng(0).integers(0, 9, n) / 8)
    pl.DataFrame([ids, rewards]).write_parquet(path, row_group_size=n)
    rows, peak = scored(path, tmp_path, LIMIT)
    assert rows == n
    assert peak <= LIMIT, f"{peak >> 20} MiB of {LIMIT >> 20}"


def scored(path, folder, limit):
    """The rows that another process scores within a limit, and the bytes it takes."""
    command = [sys.executable, "-c", SCRIPT, str(path), str(folder), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, peak = map(int, re.findall(r"\d+", run.stdout))
    return rows, peak


def of_random_rewards(path, rows, **written):
    """A file of 16 bytes a row, which nothing can pack."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(rows) // 8 * 1_000_003
    frame = pl.DataFrame({"id": ids, "reward": rng.random(rows)})
    frame.write_parquet(path, compression="uncompressed", statistics=False, **written)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["narrow", "wide"])
def test_a_limit_that_a_row_group_exceeds_is_refused_before_the_work(tmp_path, monkeypatch, layout):
    path, n = tmp_path / "rows.parquet", 3 << 20
    of_random_rewards(path, n, row_group_size=n)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "check_columns", lambda *_: pytest.fail("work was done"))
        with pytest.raises(MemoryError) as raised:
            gs.score(path, tmp_path / "out", by="id", layout=layout, memory_limit="150MiB")
    told = str(raised.value)
    assert f"row group 0 of {path}" in told
    assert "smaller row groups" in told
    assert not (tmp_path / "out").exists()
    needed = re.search(r"from 150MiB to (\d+MiB)", told)[1]
    report = gs.score(path, tmp_path / "out", by="id", layout=layout, memory_limit=needed)
    assert report.rows == n


def test_the_row_group_that_is_named_is_the_largest_by_bytes_of_the_columns_that_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"id": rng.permutation(3 << 20), "reward": rng.random(3 << 20)})
    first = frame.head(1 << 20).with_columns(
        pl.lit(0, pl.Int64).alias("id"), pl.lit(0.0).alias("reward"), text=pl.lit("x")
    )
    whole = pl.concat([first, frame.with_columns(text=pl.lit("x"))])
    table = whole.to_arrow()
    with pq.ParquetWriter(path, table.schema, compression="none", use_dictionary=["text"]) as file:
        file.write_table(table.slice(0, 1 << 20), row_group_size=1 << 20)
        file.write_table(table.slice(1 << 20), row_group_size=3 << 20)
    with pytest.raises(MemoryError, match=r"row group 1 of .* has 49 MiB of packed ids"):
        gs.score(path, tmp_path / "out", by="id", layout="narrow", memory_limit="150MiB")


@pytest.mark.slow
def test_rows_in_small_row_groups_need_no_higher_limit(tmp_path):
    path, n = tmp_path / "rows.parquet", 3 << 20
    of_random_rewards(path, n, row_group_size=1 << 17)
    report = gs.score(path, tmp_path / "out", by="id", layout="narrow", memory_limit="150MiB")
    assert report.rows == n


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the kernel tells the highest use on Linux only")
def test_the_limit_that_a_large_row_group_is_said_to_need_is_kept(tmp_path):
    path, n = tmp_path / "rows.parquet", 4 << 20
    of_random_rewards(path, n, row_group_size=n)
    with pytest.raises(MemoryError) as raised:
        gs.score(path, tmp_path / "out", by="id", layout="narrow", memory_limit="150MiB")
    needed = int(re.search(r"from 150MiB to (\d+)MiB", str(raised.value))[1]) << 20
    rows, peak = scored(path, tmp_path, needed)
    assert rows == n
    assert peak <= needed, f"{peak >> 20} MiB of {needed >> 20}"


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 14, 15, 100])
def test_a_row_group_that_is_read_in_windows_gives_the_same_scores(tmp_path, monkeypatch, rows):
    path = tmp_path / "rows.parquet"
    frame = pl.DataFrame(
        {"id": [i // 4 for i in range(rows)], "reward": [i % 3 for i in range(rows)]}
    )
    frame.write_parquet(path, row_group_size=50)
    gs.score(path, tmp_path / "whole", by="id", layout="narrow")
    monkeypatch.setattr(first_pass, "WINDOW", 7)
    gs.score(path, tmp_path / "windows", by="id", layout="narrow")
    assert gs.scan(tmp_path / "whole").collect().equals(gs.scan(tmp_path / "windows").collect())
