"""The built wheel by itself, in an environment that has nothing else."""

import os
import subprocess
import sys

import polars as pl
import pytest

from fixtures.places import ROOT

# Each is needed by an extra alone.
OPTIONAL = ("torch", "transformers", "accelerate", "pyarrow", "datasets", "ray", "trl", "verl")


def run(*command, folder):
    """What a command prints; the tree that is tested elsewhere is out of its reach."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The newest wheel in dist/, or one built now."""
    folder = ROOT / "dist"
    if not list(folder.glob("*.whl")):
        folder = tmp_path_factory.mktemp("wheel")
        build = ("maturin", "build", "--release", "--quiet", "--out", folder)
        run(sys.executable, "-m", *build, folder=ROOT)
    return max(folder.glob("*.whl"), key=lambda file: file.stat().st_mtime)


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """The folder of the commands of an environment with the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    run(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel, folder=folder)
    return folder / "venv/bin"


@pytest.mark.soak
def test_the_wheel_alone_computes_without_the_packages_of_its_extras(clean, tmp_path):
    script = (
        "import gspo_rs as gs, importlib.util as util; "
        "print(gs.percentile([0.0, 1.0, 1.0], ['a', 'b', 'a']).tolist()); "
        f"print([name for name in {OPTIONAL} if util.find_spec(name)])"
    )
    assert run(clean / "python", "-c", script, folder=tmp_path) == "[0.0, 0.5, 1.0]\n[]\n"


@pytest.mark.soak
def test_the_commands_of_the_wheel_alone_show_help_and_score_a_file(clean, tmp_path):
    shown = run(clean / "gspo-rs", "--help", folder=tmp_path)
    assert {"score", "train", "report"} <= set(shown.split())
    frame = pl.DataFrame(
        {"id": ["a", "b", "a"], "text": ["x", "y", "z"], "reward": [0.0, 1.0, 1.0]}
    )
    frame.write_parquet(tmp_path / "in.parquet")
    run(clean / "gspo-rs", "score", "in.parquet", "out", "--by", "id", folder=tmp_path)
    (scored,) = (tmp_path / "out").glob("*.parquet")
    found = pl.read_parquet(scored)
    assert found["percentile"].to_list() == [0.0, 0.5, 1.0]
    assert found["text"].to_list() == ["x", "y", "z"]
