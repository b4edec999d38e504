"""What a call holds at its highest, read from the kernel in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
ROWS = 5_000_000

SCRIPT = """
import gc, re, sys
import numpy as np
import polars as pl
import gspo_rs as gs
import gspo_rs.polars

def kibibytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def call(rewards, ids):
    {call}

rng = np.random.default_rng(0)
n = {rows}
ids = np.arange(n) // 16
if {shuffled}:
    rng.shuffle(ids)
rewards = rng.integers(0, 9, n) / 8
if {text}:
    ids = ("prompt " + pl.Series(ids).cast(pl.String)).rechunk()
call(rewards[:1000], ids[:1000])  # threads, imports and lazily built state are not of this call
gc.collect()
n_input = rewards.nbytes + (ids.estimated_size() if {text} else ids.nbytes)
open("/proc/self/clear_refs", "w").write("5")  # forget the highest so far
before = kibibytes("VmRSS")
output = call(rewards, ids)
peak = kibibytes("VmHWM") - before
n_output = output.estimated_size() if isinstance(output, pl.Series) else output.nbytes
print(peak * 1024, n_input, n_output)
"""

CALLS = {
    "percentile": "return gs.percentile(rewards, ids)",
    "zscore": "return gs.advantage(rewards, ids, 'zscore')",
    "score": "frame = pl.DataFrame({'id': ids, 'reward': rewards}).lazy()\n"
    "    score = frame.select(pl.col('reward').gspo.score(by='id'))\n"
    "    return score.collect(engine='streaming').to_series()",
}


@pytest.mark.skipif(not STATUS.exists(), reason="the kernel tells the highest use on Linux only")
@pytest.mark.parametrize("text", [False, True], ids=["int64", "string"])
@pytest.mark.parametrize("shuffled", [False, True], ids=["clustered", "shuffled"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_adds_at_most_three_times_its_input_and_its_output(call, shuffled, text):
    script = SCRIPT.format(call=CALLS[call], rows=ROWS, shuffled=shuffled, text=text)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    peak, n_input, n_output = map(int, run.stdout.split())
    sizes = f"added {peak >> 20} MiB, input {n_input >> 20} MiB, output {n_output >> 20} MiB"
    assert peak <= 3 * n_input + n_output, sizes
