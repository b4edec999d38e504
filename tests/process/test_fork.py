"""Fork, the default start of worker processes on Linux: no child hangs, whatever ran before.

Each test runs in a process of its own, so that a hang is a failure and not a hang of the tests.
"""

import subprocess
import sys

import pytest

USE = """
import os
import numpy as np
import gspo_rs as gs

rng = np.random.default_rng(0)
rewards, ids = rng.integers(0, 9, 100_000) / 8, rng.integers(0, 9_999, 100_000)
expected = gs.percentile(rewards, ids)  # in parallel: the pool has its threads now

def same():
    return np.array_equal(gs.percentile(rewards, ids), expected)
"""

CHILDREN = """
for _ in range(200):
    child = os.fork()
    if child == 0:
        os._exit(0 if same() else 3)
    assert os.waitpid(child, 0)[1] == 0
assert same()
"""

GRANDCHILD = """
child = os.fork()
if child == 0:
    assert same()
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if same() else 3)
    os._exit(os.waitpid(grandchild, 0)[1])
assert os.waitpid(child, 0)[1] == 0
"""

LOADER = """
import polars as pl
from torch.utils.data import DataLoader
import gspo_rs.polars

frame = pl.DataFrame({"id": ids, "reward": rewards})
frame.lazy().select(pl.col("reward").gspo.score(by="id")).collect(engine="streaming")

class Shuffled:
    def __len__(self):
        return 40

    def __getitem__(self, seed):
        order = np.random.default_rng(seed).permutation(len(ids))
        return bool(np.array_equal(gs.percentile(rewards[order], ids[order]), expected[order]))

loader = DataLoader(Shuffled(), num_workers=4, batch_size=5, multiprocessing_context="fork")
for _ in range(2):
    assert [bool(found) for batch in loader for found in batch] == [True] * 40
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [CHILDREN, GRANDCHILD, LOADER],
    ids=["two hundred children", "a child of a child", "the workers of a DataLoader"],
)
def test_children_forked_after_use_compute_the_same(script):
    command = [sys.executable, "-c", USE + script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
