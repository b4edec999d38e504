"""The scripts that let a shell complete commands."""

import os
import subprocess

import pytest

from fixtures.commands import command


@pytest.mark.slow
def test_the_script_of_completion_completes_verbs_and_options(tmp_path):
    script = tmp_path / "script"
    found = command(
        "--install-completion",
        "--shell",
        "bash",
        "-o",
        script,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert found.returncode == 0, found.stderr
    ask = f'. {script}; COMP_WORDS=({{}}); COMP_CWORD={{}}; _gspo_rs; echo "${{{{COMPREPLY[@]}}}}"'
    for words, place, expected in (
        ("gspo-rs sc", 1, "scan score"),
        ("gspo-rs pairs --strat", 2, "--strategy"),
    ):
        run = subprocess.run(
            ["bash", "-c", ask.format(words, place)], capture_output=True, text=True, check=False
        )
        assert sorted(run.stdout.split()) == expected.split(), run.stderr
