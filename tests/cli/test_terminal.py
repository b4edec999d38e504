"""Texts of other people on a terminal, and what a library in Rust says before it fails."""

import os
import re
import subprocess
import sys

import polars as pl
import pytest

from fixtures.commands import PROGRAM
from fixtures.forked import finished
from gspo_rs.cli import errors
from gspo_rs.cli.stats import stats
from gspo_rs.cli.terminal import one_line, printable
from gspo_rs.files.lock import LockedError

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# Markup of Rich, an emoji's name, ESC with a colour, bell, carriage return, a text turned around.
TEXTS = ["[/x]", "[bold]x", ":smile:", "\x1b[31mred", "\a\b", "a\rb", "\u202etxt", "\x9b1m", "a\nb"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_of_the_data_is_shown_and_never_obeyed(text, tmp_path, capsys):
    frame = pl.DataFrame({"id": ["a", "a"], "reward": [0.0, 1.0], text: [text, text]})
    frame.write_parquet(tmp_path / "in.parquet")
    assert stats([str(tmp_path / "in.parquet")], by=["id"], per=text) == 0
    shown = capsys.readouterr().out
    assert not OBEYED.search(shown)
    assert shown.count(printable(text)) >= 2  # the column's name, and its value


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_a_name_of_a_file_or_column_is_shown_and_never_obeyed(text, tmp_path):
    folder = tmp_path / text.replace("/", "")
    folder.mkdir()
    pl.DataFrame({text: ["a", "a"], "reward": [0.0, 1.0]}).write_parquet(folder / "in.parquet")
    found = finished("stats", folder / "in.parquet", "--by", "absent")
    assert found.returncode == 2
    assert printable(text) in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not OBEYED.search(found.stderr)
    written = finished(
        "filter", folder / "in.parquet", "-o", folder / "o.parquet", "--by", text, "--keep=all"
    )
    assert printable(str(folder)) in written.stdout
    assert not OBEYED.search(written.stdout)


def test_a_name_that_no_encoding_can_write_is_still_shown(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.parquet"
    found = subprocess.run(
        [*PROGRAM, "stats", path, "--by", "id"], capture_output=True, check=False
    )
    assert found.returncode == 2
    assert b"\\udcff" in found.stderr
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize("error", [ValueError, TypeError, RuntimeError, OSError])
def test_an_error_is_one_line_of_at_most_a_screen_and_keeps_both_its_ends(error, capsys):
    text = "file.parquet: " + "x\n" * 1_000_000 + "; drop the column"
    errors.report_error(error(text), verbose=False)
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1
    assert len(line) < 1200
    assert "file.parquet" in line
    assert line.endswith("; drop the column\n")


@pytest.mark.parametrize("kind", [TypeError, ValueError, OSError])
def test_a_mistake_of_the_user_is_told_without_the_name_of_a_class(kind, capsys):
    assert errors.report_error(kind("column 'x' is List"), verbose=False) == 2
    assert capsys.readouterr().err == "error: column 'x' is List\n"


def test_one_line_escapes_what_a_terminal_obeys_and_leaves_words_alone():
    for text in ("Grüße", "שלום", "🙂‍↔️", "日本"):
        assert one_line(text) == text
    assert one_line("a\n  b\x1bc") == "a b\\x1bc"


PANIC = """
import sys, polars as pl
from gspo_rs.cli import stats as command
def panicking(*_, **__):
    frame = pl.DataFrame({"x": [b"x"]})
    frame.lazy().sink_ndjson(sys.argv[-1])
import gspo_rs.files.summary as summary
summary.summarize = panicking
from gspo_rs.cli import main
main()
"""


def test_a_panic_of_a_library_is_told_in_one_line(tmp_path):
    arguments = ["stats", "x", "--by", "id", "--per", str(tmp_path / "out")]
    command = [sys.executable, "-c", PANIC, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert len(found.stderr.splitlines()) == 1
    assert "native code panicked" in found.stderr


def test_an_abort_leaves_a_word():
    program = (
        "import os, sys; import gspo_rs.files.summary as summary\n"
        "summary.summarize = lambda *_, **__: os.abort()\n"
        "from gspo_rs.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "stats", "x", "--by", "id"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode < 0
    assert "Aborted" in found.stderr


def test_a_lock_that_another_process_holds_is_told_without_the_name_of_a_class(capsys):
    assert errors.report_error(LockedError("another process is writing out"), verbose=False) == 1
    assert capsys.readouterr().err == "error: another process is writing out\n"
