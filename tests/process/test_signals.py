"""Ctrl-C during a long call: a real signal to a real process that computes without end.

What counts is the processor time from the signal to the exception: it is that of the clock on
an idle machine, and does not grow with the load of a busy one.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import pytest

STAT = Path("/proc/self/stat")
TICKS = os.sysconf("SC_CLK_TCK")

SCRIPT = """
import signal, sys, time
import numpy as np
import polars as pl
import pyarrow as pa
import gspo_rs as gs

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
rng = np.random.default_rng(0)
{setup}
for _ in range(int(sys.argv[1])):
    try:
        print("ready", flush=True)
        while True:
            {call}
    except KeyboardInterrupt:
        print(time.process_time(), flush=True)
"""

ONE_GROUP = "rewards = rng.normal(size={}); groups = gs.Groups.from_offsets([0, len(rewards)])"
SCATTERED = """
rewards = rng.normal(size=5_000_000)
groups = gs.Groups(rng.integers(0, 300_000, 5_000_000)); gs.rank(rewards, groups)
"""
SHUFFLED = "ids = rng.integers(0, 1_000_000, 20_000_000)"
IN_TURN = "ids = np.arange(20_000_000) % 2; rewards = rng.normal(size=len(ids))"
LINES = """
import tempfile
from gspo_rs import data
file = tempfile.NamedTemporaryFile(suffix=".jsonl")
file.write((b'{"id": 1, "text": "' + b"x" * 1000 + b'"}' + bytes([10])) * 100_000)
file.flush()
"""
CALLS = {
    "the lines of a file": (LINES, "data.scan(file.name)"),
    "soft win rates of one group": (
        ONE_GROUP.format(100_000),
        'gs.advantage(rewards, groups, "soft_winrate", tau=0.5)',
    ),
    "ranks of one group": (ONE_GROUP.format(10_000_000), "gs.rank(rewards, groups)"),
    "normal scores of one group": (
        ONE_GROUP.format(10_000_000),
        'gs.advantage(rewards, groups, "normal")',
    ),
    "the best of draws from one group": (
        ONE_GROUP.format(10_000_000),
        'gs.advantage(rewards, groups, "pkpo", k=3, baseline="leave_one_out")',
    ),
    "all pairs of one group": (
        ONE_GROUP.format(8_000),
        'gs.preference_pairs(rewards, groups, "all")',
    ),
    "columns of scattered groups": (
        SCATTERED,
        'gs.rows(rewards, groups, ["percentile", "group_mean", "group_std"] * 5)',
    ),
    "statistics of scattered groups": (SCATTERED, "gs.stats(rewards, groups)"),
    "a batch": (SCATTERED, 'gs.advantage(rewards, groups, "reinforce_pp")'),
    "groups of shuffled integers": (SHUFFLED, "gs.Groups(ids)"),
    "groups of two ids in turn": (IN_TURN, "gs.Groups(ids)"),
    "ranks of two groups in turn": (
        IN_TURN + "; groups = gs.Groups(ids)",
        "gs.rank(rewards, groups)",
    ),
    "groups of one long run among short ones": (
        "ids = np.zeros(20_000_000, int); ids[::2000] = rng.integers(1, 9, 10_000)",
        "gs.Groups(ids)",
    ),
    "groups of strings": (
        "ids = pa.array(rng.integers(0, 300_000, 10_000_000)).cast(pa.string())",
        "gs.Groups(ids)",
    ),
    "groups of chunks of strings": (
        "ids = pl.Series(rng.integers(0, 300_000, 10_000_000)).cast(pl.String)\n"
        "ids = ids[:5_000_000].append(ids[5_000_000:])",
        "gs.Groups(ids)",
    ),
    "groups of a dictionary": (
        "ids = pa.array(rng.integers(0, 1000, 20_000_000)).dictionary_encode()",
        "gs.Groups(ids)",
    ),
    "groups of narrow integers": (
        "ids = pa.array(rng.integers(0, 1_000_000, 20_000_000, np.int32))",
        "gs.Groups(ids)",
    ),
    "groups of two columns": (
        "ids = pl.DataFrame(rng.integers(0, 1000, (10_000_000, 2)))",
        "gs.Groups(ids)",
    ),
    "groups of ids some of which are null": (
        "ids = pl.Series(rng.integers(0, 9, 20_000_000)).replace(0, None)",
        'gs.Groups(ids, null_ids="drop")',
    ),
    "codes of scattered groups": (
        SHUFFLED + "; groups = gs.Groups(ids)",
        "groups._core.codes()",
    ),
    "order of two groups in turn": (IN_TURN, "gs.Groups(ids).order"),
    "ids in a list": ("ids = list(range(3_000_000))", "gs.Groups(ids)"),
}


def processor_time(pid):
    """Seconds that the process has computed, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def times_to_stop(name, waits):
    """Interrupt the calls of one process, each after a while; return how long each went on."""
    setup, call = CALLS[name]
    script = SCRIPT.format(setup=setup, call=call)
    command = [sys.executable, "-c", script, str(len(waits))]
    env = os.environ | {"GSPO_RS_THREADS": "1"}
    found = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as child:
        watch = threading.Timer(600, child.kill)
        watch.start()
        try:
            for wait in waits:
                assert child.stdout.readline() == "ready\n"
                time.sleep(wait)
                before = processor_time(child.pid)
                child.send_signal(signal.SIGINT)
                found.append(float(child.stdout.readline()) - before)
        finally:
            watch.cancel()
            child.kill()
    return found


needs_stat = pytest.mark.skipif(
    not STAT.exists(), reason="processor time of another process is read on Linux"
)


@pytest.mark.slow
@needs_stat
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_does_not_wait_for_the_end_of_a_call(name):
    # Several times what an idle machine takes: page faults and caches are shared with neighbours.
    times = times_to_stop(name, (0.1, 0.23, 0.31))
    assert median(times) < 0.3, times


@pytest.mark.soak
@needs_stat
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_is_answered_within_a_tenth_of_a_second_on_an_idle_machine(name):
    times = times_to_stop(name, [0.3 + 0.11 * k for k in range(9)])
    assert median(times) < 0.1, times
    assert max(times) < 0.5, times
