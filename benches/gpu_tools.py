"""The stages of `gpu_once.py` that run other programs: the tests, and a check of memory."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TESTS = ("tests/project/test_gpu.py", "tests/logprobs")


def run(command: list[str], output: Path) -> tuple[int, str]:
    """Run a command in the folder of the repository; return how it ended, and what it printed."""
    paths = [str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]
    with output.open("w") as file:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode, output.read_text()


def tests(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run the tests that need a GPU; without one all of them are skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    code, printed = run([*command, *TESTS], options.output / "tests.txt")
    found = {
        kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", printed)
    }
    row: dict[str, Any] = {"name": "tests", "exit": code, **found}
    if code:
        row |= {"state": "failed", "says": "see tests.txt"}
    yield row


def memcheck(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run the smallest head below compute-sanitizer."""
    found = shutil.which("compute-sanitizer")
    if found is None or options.device.type != "cuda":
        reason = "compute-sanitizer" if found is None else "a GPU"
        (options.output / "memcheck.txt").write_text(f"not run: there is no {reason}\n")
        yield {"name": "memcheck", "state": "not installed", "says": f"needs {reason}"}
        return
    with tempfile.TemporaryDirectory() as folder:
        inner = ["--stages", "smoke", "--output", str(Path(folder) / "smoke")]
        script = [sys.executable, str(Path(__file__).parent / "gpu_once.py"), *inner]
        command = [found, "--tool", "memcheck", "--target-processes", "all", *script]
        code, printed = run(command, options.output / "memcheck.txt")
    errors = [int(n) for n in re.findall(r"ERROR SUMMARY: (\d+) error", printed)]
    row: dict[str, Any] = {"name": "memcheck", "exit": code, "errors": sum(errors)}
    if code or not errors or sum(errors):
        row |= {"state": "failed", "says": "see memcheck.txt"}
    yield row
