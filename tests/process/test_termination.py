"""SIGTERM: answered as Ctrl-C is, in Python and in native code, with a code of its own."""

import subprocess
import sys

import pytest

from gspo_rs.files.termination import Terminated, exit_code

SCRIPT = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
from gspo_rs.files.termination import answer_signals, exit_code
answer_signals()
import numpy as np, polars as pl
import gspo_rs as gs
from polars.io.plugins import register_io_source
begun = threading.Event()
{setup}
def send():
    begun.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), int(sys.argv[1]))
threading.Thread(target=send, daemon=True).start()
cleaned = []
try:
    try:
        while True:
            begun.set()
            {call}
    finally:
        for k in range(1000):
            cleaned.append(k)
except KeyboardInterrupt as error:
    time.sleep(0.2)
    print(exit_code(error), len(cleaned))
"""
ENDLESS = """
def rows(*_):
    while True:
        yield pl.DataFrame({"x": np.arange(1000)})
endless = register_io_source(rows, schema={"x": pl.Int64})
"""
CALLS = {
    "Python": ("", "time.sleep(0.01)"),
    "our kernels": ("rewards = np.arange(3_000_000.0)", "gs.rank(rewards, [0] * len(rewards))"),
    "Polars": (ENDLESS, "endless.sink_parquet('/dev/null')"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
@pytest.mark.parametrize("call", CALLS)
def test_whatever_runs_stops_once_for_sigterm_as_for_ctrl_c(call, number, code):
    setup, line = CALLS[call]
    script = SCRIPT.format(setup=setup, call=line)
    found = subprocess.run(
        [sys.executable, "-c", script, str(number)], capture_output=True, text=True, check=False
    )
    assert found.stdout == f"{code} 1000\n", found.stderr


def test_a_second_signal_ends_what_answers_to_the_first():
    script = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from gspo_rs.files.termination import Terminated, answer_signals
answer_signals()
def wait():
    while True:
        time.sleep(0.01)
for first in (signal.SIGINT, signal.SIGTERM):
    try:
        try:
            os.kill(os.getpid(), first)
            wait()
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
            wait()
    except KeyboardInterrupt as error:
        print(type(error.__context__).__name__)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert found.stdout == "KeyboardInterrupt\nTerminated\n", found.stderr


def test_a_signal_to_a_forked_child_does_not_end_its_parent():
    script = """
import os, signal, time
from gspo_rs.files.termination import answer_signals
answer_signals()
child = os.fork()
if child == 0:
    while True:
        time.sleep(0.01)
time.sleep(0.1)
os.kill(child, signal.SIGTERM)
_, status = os.waitpid(child, 0)
time.sleep(0.3)
print(os.waitstatus_to_exitcode(status))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "-15\n"), found.stderr


def test_sigterm_is_answered_where_ctrl_c_is_ignored():
    """As in a job that a shell has put into the background."""
    script = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from gspo_rs.files.termination import Terminated, answer_signals
answer_signals()
os.kill(os.getpid(), signal.SIGINT)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        time.sleep(0.01)
except Terminated:
    print("answered")
"""
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert found.stdout == "answered\n", found.stderr


def test_the_exit_code_is_that_of_the_signal():
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(Terminated()) == 143
