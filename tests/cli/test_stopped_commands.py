"""Commands that are stopped, and pairs of them at once: what they leave, say and return."""

import os
import pty
import sys
from signal import SIGINT, SIGTERM

import polars as pl
import pytest

import gspo_rs as gs
from fixtures.forked import finished, forked

BY = ["--by", "id"]
# Stops a command in the middle of its work: where it reads the rows that it writes.
SLOW = """
import os, signal, sys, time
from gspo_rs.data.progress import passes
from gspo_rs.files.scoring import by_file
number = int(os.environ["SIGNAL"])
def stopped(function):
    def slow(*arguments, **named):
        # The bars come from a thread of their own, which a busy machine may not let run at once.
        while sys.stderr.isatty() and not (passes._bars and passes._bars.live.is_started):
            time.sleep(0.01)
        os.kill(os.getpid(), number)
        while True:
            time.sleep(0.01)
        return function(*arguments, **named)
    return slow
import gspo_rs.files.writer, gspo_rs.report.page, gspo_rs.files.selection
import gspo_rs.data.progress
gspo_rs.data.progress.DELAY = 0.0
gspo_rs.files.writer.refuse_unwritable = stopped(None)
gspo_rs.report.page.write_text = stopped(None)
gspo_rs.files.selection._described = stopped(None)
by_file.write_read = stopped(None)
from gspo_rs.cli import main
main()
"""
WORKS = {
    "best": ["best", "a.parquet", "-o", "out.parquet", *BY],
    "pairs": ["pairs", "a.parquet", "-o", "out.parquet", *BY],
    "filter": ["filter", "a.parquet", "-o", "out.parquet", *BY, "--keep", "best:1"],
    "filter narrow": [
        *["filter", "a.parquet", "-o", "out.parquet", *BY, "--keep", "best:1", "--layout", "narrow"]
    ],
    "nest": ["nest", "a.parquet", "-o", "out.parquet", *BY],
    "report": ["report", "a.parquet", "-o", "out.html", *BY],
    "score": ["score", "a.parquet", "-o", "out", *BY],
}


@pytest.fixture
def folder(tmp_path):
    """A file of rows."""
    frame = pl.DataFrame({"id": [row // 4 for row in range(400)]}).with_columns(
        prompt=pl.format("p{}", "id"),
        completion=pl.format("c{}", pl.int_range(pl.len())),
        reward=(pl.int_range(pl.len()) % 7) / 7,
    )
    frame.write_parquet(tmp_path / "a.parquet")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
@pytest.mark.parametrize("name", WORKS)
def test_sigterm_cleans_up_as_ctrl_c_does(folder, name, number, code):
    # It dies of the signal if nobody answers.
    found = finished(*WORKS[name], code=SLOW, cwd=folder, SIGNAL=str(int(number)))
    assert found.returncode == code, found.stderr
    assert len(found.stderr.splitlines()) == 1
    left = {path.name for path in folder.iterdir()} - {"a.parquet"}
    assert left == ({".out.gspo-rs"} if name == "score" else set())
    if name == "score":
        assert "goes on" in found.stderr
        gs.score(folder / "a.parquet", folder / "out", by="id")
        gs.verify(folder / "out")


def on_a_terminal(folder, words, number):
    """Run a command on a terminal of its own; return its code and all that it wrote there."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ |= {"SIGNAL": str(int(number)), "TERM": "xterm"}
        os.execv(sys.executable, [sys.executable, "-c", SLOW, *words])
    written = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        written += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written


@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_the_cursor_of_a_terminal_comes_back(folder, number, code):
    found, written = on_a_terminal(folder, WORKS["score"], number)
    assert found == code, written
    hidden, shown = written.rfind(b"\x1b[?25l"), written.rfind(b"\x1b[?25h")
    assert 0 <= hidden < shown


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WORKS if name != "score"])
def test_two_commands_at_once_leave_what_one_of_them_writes(folder, name):
    words = WORKS[name]
    target = folder / next(word for word in words if word.startswith("out"))
    pl.read_parquet(folder / "a.parquet").with_columns(
        completion=pl.format("another {}", "completion")
    ).write_parquet(folder / "b.parquet")
    alone = []
    for source in ("a.parquet", "b.parquet"):
        given = [source if word == "a.parquet" else word for word in words]
        assert finished(*given, cwd=folder).returncode == 0
        alone.append(target.read_bytes())
        target.unlink()
    for more in ([], ["--overwrite"]):
        runs = [
            forked(*[source if word == "a.parquet" else word for word in words], *more, cwd=folder)
            for source in ("a.parquet", "b.parquet")
        ]
        for one in runs:
            one.communicate()
        codes = [one.returncode for one in runs]
        assert target.read_bytes() in alone
        assert codes in ([0, 0], [0, 2], [2, 0])
        assert more or codes != [0, 0]
        target.unlink()
        left = {path.name for path in folder.iterdir()}
        assert left == {"a.parquet", "b.parquet"}
