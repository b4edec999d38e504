"""The guide of watching a run: its commands run as printed and show what it says."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from fixtures.commands import MAIN
from fixtures.places import ROOT
from gspo_rs.train.metric_table import described

PAGE = (ROOT / "docs" / "guides" / "watching.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.slow
def test_its_commands_run_and_show_its_recording(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    program = tmp_path / "bin" / "gspo-rs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{MAIN}' \"$@\"\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    start = [sys.executable, "examples/letters.py"]
    subprocess.run(start, cwd=tmp_path, env=environment, check=True, capture_output=True)
    shown = []
    for block in BLOCKS:
        shell = ["bash", "-euc", block]
        done = subprocess.run(
            shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        shown.append(done.stdout)
    recorded = PAGE[PAGE.index("next\n  runs/watched") :].partition("```")[0]
    assert recorded in shown[0]
    assert "\nreward " in shown[0]


def test_no_recorded_line_is_wider_than_80_columns_and_no_metric_is_unknown():
    recordings = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)
    assert max(len(line) for line in recordings[0].splitlines()) <= 80
    assert max(len(line) for line in recordings[2].splitlines()) <= 80
    for row in re.findall(r"^\| .* \|$", PAGE, re.M)[2:]:
        for name in re.findall("`([a-z_0-9]+/?[a-z_0-9]+)`", row.split("|")[2]):
            assert described(name) is not None, name
