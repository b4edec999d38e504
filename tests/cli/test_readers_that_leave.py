"""Commands whose output nobody reads to its end: `| head`, a terminal that is closed."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
from contextlib import suppress

import polars as pl
import pytest

from fixtures.commands import PROGRAM
from fixtures.runs import TWO_STEPS, last_step, make, wait_for

BY = ["--by", "id"]
# From the third batch on it waits for the file `closed`.
WAITS = """
import time
from pathlib import Path
calls = []
def noisy(completions, **_):
    calls.append(0)
    while len(calls) > 2 and not Path("closed").exists():
        time.sleep(0.01)
    return [float(text.count("a")) for text in completions]
"""


@pytest.fixture
def run(letters, tmp_path):
    """The words of a run of four steps, in a folder."""
    settings = {**TWO_STEPS, "max_steps": 4, "eval_size": 0, "eval_steps": 0}
    make(tmp_path / "of", letters, reward=WAITS, **settings)
    return [*PROGRAM, "train", "run.toml"]


def unread(words, folder, **streams):
    """Run a command whose standard output is a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        return subprocess.run(words, cwd=folder, stdout=pipe, text=True, check=False, **streams)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["scan", "a.parquet"],
        pytest.param(["stats", "a.parquet", *BY], marks=pytest.mark.slow),
        pytest.param(["score", "a.parquet", "-o", "out", *BY], marks=pytest.mark.slow),
        pytest.param(["best", "a.parquet", "-o", "out.jsonl", *BY], marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_nobody_reads_writes_its_files_and_ends_without_a_word(tmp_path, words):
    rows = {"id": [0, 0, 1, 1], "prompt": "p", "completion": list("abcd"), "reward": [1, 0, 1, 0]}
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    done = unread([*PROGRAM, *words], tmp_path, stderr=subprocess.PIPE)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr
    if "-o" in words:
        assert (tmp_path / words[3]).exists()


@pytest.mark.slow
def test_a_run_that_nobody_reads_goes_on_to_its_model(run, tmp_path):
    (tmp_path / "of" / "closed").touch()
    done = unread(run, tmp_path / "of", stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "nobody reads the output any more; the work goes on without it" in done.stderr
    assert (tmp_path / "of" / "run" / "final").is_dir()


def closed_at_work(words, folder, **options):
    """Start a run on a terminal, close that after two steps, and return the run."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        words, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, **options
    )
    os.close(theirs)
    os.set_blocking(ours, False)

    def at_work():
        with suppress(BlockingIOError):  # what nobody reads, the run waits for
            os.read(ours, 1 << 16)
        return last_step(folder / "run") >= 2

    wait_for(at_work, child)
    os.close(ours)
    (folder / "closed").touch()
    return child


@pytest.mark.slow
def test_a_run_in_the_background_of_a_terminal_that_is_closed_goes_on(run, tmp_path):
    assert closed_at_work(run, tmp_path / "of").wait() == 0
    assert (tmp_path / "of" / "run" / "final").is_dir()


def take_the_terminal():
    """Make it the child's own, and have its end noticed, also below `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_leaves_a_checkpoint_to_resume_from(run, tmp_path):
    child = closed_at_work(
        run, tmp_path / "of", start_new_session=True, preexec_fn=take_the_terminal
    )
    assert child.wait() == 129
    assert list((tmp_path / "of" / "run").glob("checkpoint-*"))
    done = subprocess.run(
        [*run, "--resume"], cwd=tmp_path / "of", check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert last_step(tmp_path / "of" / "run") == 4
