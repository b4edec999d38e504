"""The command line: quick to answer, one line for a mistake."""

import subprocess
import sys
import tomllib

import pytest

from fixtures.commands import command
from fixtures.places import ROOT
from gspo_rs.cli import parameters
from gspo_rs.cli.commands import COMMANDS
from gspo_rs.cli.train import train
from gspo_rs.files.scoring.options import Layout
from gspo_rs.groups.pairs import Strategy

CARGO = ROOT / "Cargo.toml"


# Each command in a process of its own, forked from one that has loaded the application alone.
LOADED = """
import os, sys
from gspo_rs.cli.application import app
for words in sys.argv[1:]:
    if os.fork() == 0:
        try:
            app(words.split())
        except SystemExit:
            pass
        print("modules", *sys.modules, end=chr(0))
        break
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def loaded():
    """What the program writes for some words, and the modules that it has loaded then."""
    asked = ["--help", "--version", *(f"{command} --help" for command in COMMANDS)]
    run = [sys.executable, "-c", LOADED, *asked]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    parts = [part.rsplit("modules", 1) for part in told.split("\0")[:-1]]
    return {
        words: (written, modules.split())
        for words, (written, modules) in zip(asked, parts, strict=True)
    }


HEAVY = {"numpy", "torch", "transformers", "polars", "pandas", "pyarrow", "jinja2", "rich.progress"}


def test_commands_take_the_layouts_and_strategies_of_the_functions():
    assert parameters.Layout == Layout
    assert parameters.Strategy == Strategy


@pytest.mark.slow
def test_help_loads_nothing_that_a_command_needs(loaded):
    written, modules = loaded["--help"]
    assert "train" in written
    assert not {*HEAVY, "gspo_rs._core", "json", "logging"} & set(modules)
    assert not {f"gspo_rs.cli.{module}" for module, _ in COMMANDS.values()} & set(modules)


def test_the_version_is_printed_alone_and_loads_nothing_that_a_command_needs(loaded):
    written, modules = loaded["--version"]
    version = tomllib.loads(CARGO.read_text())["package"]["version"]
    assert written == f"gspo-rs {version}\n"
    assert not HEAVY & set(modules)
    assert command("--version").returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_nothing_that_it_needs_to_run(loaded, command):
    written, modules = loaded[f"{command} --help"]
    assert f"gspo-rs {command}" in written
    assert COMMANDS[command][1].split(":")[0] in " ".join(written.split())
    assert not {*HEAVY, "gspo_rs._core"} & set(modules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'm'", "unknown key `modle`; did you mean `model`?"),
        ("model = 'm'\nseed = 'one'", "seed = 'one': expected an integer"),
        ("model = 'm'\n", "give either `prompts` (online) or `rollouts` (offline)"),
        ("model = 'm'\nrollouts = 'none.parquet'", "none.parquet"),
    ],
)
def test_bad_input_gets_one_line_and_code_two(tmp_path, capsys, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert train(path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_verbose_shows_where_the_error_comes_from(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("modle = 'm'")
    found = command("train", str(path), "-v")
    assert found.returncode == 1
    assert "Traceback" in found.stderr


def test_an_unknown_command_is_refused_with_the_nearest_one():
    found = command("tran")
    assert found.returncode != 0
    assert "train" in found.stderr + found.stdout
