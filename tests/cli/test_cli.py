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


def loaded_by(*arguments):
    """What the program writes, and the modules that it has loaded then."""
    code = (
        "import sys; from gspo_rs.cli.application import app\n"
        f"try: app({list(arguments)})\n"
        "except SystemExit: pass\n"
        "print('modules', *sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    written, modules = found.stdout.rsplit("modules", 1)
    return written, modules.split()


HEAVY = {"numpy", "torch", "transformers", "polars", "pandas", "pyarrow", "jinja2", "rich.progress"}


def test_commands_take_the_layouts_and_strategies_of_the_functions():
    assert parameters.Layout == Layout
    assert parameters.Strategy == Strategy


def test_help_loads_nothing_that_a_command_needs():
    written, loaded = loaded_by("--help")
    assert "train" in written
    assert not {*HEAVY, "gspo_rs._core", "json", "logging"} & set(loaded)
    assert not {f"gspo_rs.cli.{module}" for module, _ in COMMANDS.values()} & set(loaded)


def test_the_version_is_printed_alone_and_loads_nothing_that_a_command_needs():
    written, loaded = loaded_by("--version")
    version = tomllib.loads(CARGO.read_text())["package"]["version"]
    assert written == f"gspo-rs {version}\n"
    assert not HEAVY & set(loaded)
    assert command("--version").returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_nothing_that_it_needs_to_run(command):
    written, loaded = loaded_by(command, "--help")
    assert f"gspo-rs {command}" in written
    assert COMMANDS[command][1].split(":")[0] in " ".join(written.split())
    assert not {*HEAVY, "gspo_rs._core"} & set(loaded)


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
