"""The guide of data formats: its commands run as printed, and its tables are those of the code."""

import os
import re
import subprocess
import sys

from fixtures.places import ROOT
from gspo_rs.data.formats import SUFFIXES
from gspo_rs.data.known_schemas import SCHEMAS

PAGE = (ROOT / "docs" / "guides" / "data_formats.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)


def test_its_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    folder, programs = tmp_path / "empty", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    command = programs / "gspo-rs"
    run = 'exec "$PYTHON" -c "from gspo_rs.cli import main; main()" "$@"'
    command.write_text(f"#!/bin/sh\n{run}\n")
    command.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    names: dict = {}
    monkeypatch.chdir(folder)
    for language, block in BLOCKS:
        if language == "python":
            exec(block, names)
            continue
        shell = ["bash", "-euo", "pipefail", "-c", block]
        environment = {**os.environ, "PATH": path, "PYTHON": sys.executable}
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        assert "read as" in done.stderr or "1.jsonl" not in block
    assert {language for language, _ in BLOCKS} == {"python", "sh"}


def test_it_names_every_suffix_and_every_schema():
    for suffix in SUFFIXES:
        bare = suffix.removesuffix(".gz").removesuffix(".zst")
        assert f"`{bare}`" in PAGE
    for schema in SCHEMAS:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {schema.name[:12]}"))
        assert all(f"`{name}`" in row for name in (*schema.has, *schema.prompt, *schema.reward))
