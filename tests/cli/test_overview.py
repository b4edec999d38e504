"""The help of `gspo-rs`, which is laid out without cyclopts and rich, against theirs."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.text import Text

from fixtures.commands import MAIN
from gspo_rs.cli.application import app
from gspo_rs.cli.overview import ENVIRONMENT, NARROWEST, overview

USUAL = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}


def lines(text):
    """The lines of a text without its styles and without blanks at the ends."""
    return [line.rstrip() for line in Text.from_ansi(text).plain.split("\n")]


def styles(text):
    """The style of each character that is none of the blanks."""
    text = Text.from_ansi(text)
    shown = [place for place, letter in enumerate(text.plain) if not letter.isspace()]
    return [str(text.get_style_at_offset(Console(), place)) for place in shown]


@pytest.mark.parametrize("styled", [False, True])
@pytest.mark.parametrize("width", [NARROWEST, 61, 71, 80, 97, 200])
def test_the_overview_is_that_of_cyclopts_to_the_letter_and_the_colour(width, styled):
    theirs = io.StringIO()
    console = Console(
        file=theirs,
        width=width,
        force_terminal=styled,
        color_system="standard" if styled else None,
        _environ={},
    )
    app.help_print([], console=console)
    ours = overview(width, styled=styled)
    assert lines(ours) == lines(theirs.getvalue())
    assert styles(ours) == styles(theirs.getvalue())


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_loads_neither_cyclopts_nor_rich(words):
    code = (
        f"import sys; sys.argv = ['gspo-rs', *{words}]; {MAIN}\n"
        "print('modules', *{name.split('.')[0] for name in sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=USUAL
    )
    written, modules = found.stdout.rsplit("modules", 1)
    assert "Usage: gspo-rs COMMAND" in written
    assert not {"cyclopts", "rich", "numpy", "polars", "torch"} & set(modules.split())


@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "40"}, {"PYTHONIOENCODING": "ascii"}, {"NO_COLOR": "1"}]
)
def test_where_the_output_is_unusual_cyclopts_writes_the_help(environment):
    at_exit = "import atexit; atexit.register(lambda: print('rich' in sys.modules))"
    code = f"import sys; sys.argv = ['gspo-rs', '--help']; {at_exit}; {MAIN}"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=USUAL | environment,
    )
    assert found.stdout.splitlines()[-1] == "True"
    assert "Usage: gspo-rs COMMAND" in found.stdout
