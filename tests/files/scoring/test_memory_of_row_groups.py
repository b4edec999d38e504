"""What scoring holds at its highest for a file that is one row group."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gspo_rs as gs
from gspo_rs.files.scoring import first_pass

STATUS = Path("/proc/self/status")
LIMIT = 400 << 20
# What reading holds beside it: the packed bytes of the columns, their dictionary, and frames.
BESIDE = 100 << 20
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


@pytest.mark.skipif(not STATUS.exists(), reason="the kernel tells the highest use on Linux only")
@pytest.mark.parametrize("text", [False, True], ids=["int64", "36 bytes"])
def test_one_row_group_of_many_rows_holds_little_beside_memory_limit(tmp_path, text):
    n, path = 12_000_000, tmp_path / "rows.parquet"
    ids = pl.Series("id", np.arange(n) // 16)
    if text:
        ids = ("prompt-of-some-data-set-" + ids.cast(pl.String).str.pad_start(12, "0")).alias("id")
    rewards = pl.Series("reward", np.random.default_rng(0).integers(0, 9, n) / 8)
    pl.DataFrame([ids, rewards]).write_parquet(path, row_group_size=n)
    command = [sys.executable, "-c", SCRIPT, str(path), str(tmp_path), str(LIMIT)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, peak = map(int, re.findall(r"\d+", run.stdout))
    assert rows == n
    assert peak <= LIMIT + BESIDE, f"{peak >> 20} MiB of {LIMIT >> 20}"


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
