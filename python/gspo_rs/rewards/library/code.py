"""Programs judged by what they print."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.library.killable import refuse_outside_worker
from gspo_rs.rewards.library.texts import said

__all__ = ["code_tests"]

_BLOCK = re.compile(r"^```(?:python|py|python3)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MOST_OUTPUT = 1 << 20
# What is printed goes into a file, which must not fill the disk.
_START = """
import resource, sys
most = int(sys.argv.pop())
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
with open("program.py", "rb") as file:
    exec(compile(file.read(), "program.py", "exec"), {"__name__": "__main__"})
"""


def code_tests(
    completions: Sequence[Any], tests: Sequence[Any], *, seconds: float = 5.0, **_: Any
) -> list[float | None]:
    r"""Share of tests that the Python program in a completion passes.

    The program is the last block of code that is closed, or the whole text without a block; it runs
    once a test in a fresh interpreter, without this package and the packages that are installed.

    Parameters
    ----------
    completions : sequence
        Texts or messages.
    tests : sequence
        Of each completion a list, or its JSON, of tests: ``{"input": …, "output": …}``, what the
        program reads and has to print, apart from spaces at the ends of lines and of the whole. No
        reward where it is null or empty.
    seconds : float
        For all tests of a completion together; those that are not over then have failed.

    Traps
    -----
    An endless loop is a wrong program, not a failure of the grader: keep `seconds` below the time
    limit of the pool. A program that is told the right output can print it, and one that runs in
    the process of its tests can end it with success before they begin; so tests are what it reads
    and prints. It may read files and the network as you may, unless the workers have a sandbox: use
    one, for a policy writes what runs here. Partial credit teaches special cases; ask for 1.0 by
    ``--keep`` or a function of your own if you want none.

    References
    ----------
    APPS (Hendrycks et al. 2021, arXiv:2105.09938): tests by standard input and output, and their
    share.
    """
    refuse_outside_worker("code_tests")
    return [
        _passed(_program(said(one)), _tests(given), time.monotonic() + seconds)
        for one, given in zip(completions, tests, strict=True)
    ]


def _program(text: str) -> str:
    blocks = _BLOCK.findall(text)
    return str(blocks[-1]) if blocks else text


def _tests(given: Any) -> list[Mapping[str, str]]:
    found = json.loads(given) if isinstance(given, str) else given
    found = [] if found is None else list(found)
    for one in found:
        if not isinstance(one, Mapping) or not {"input", "output"} <= set(one):
            raise RewardError(f"a test of code_tests is {one!r}; it has an input and an output")
    return found


def _passed(program: str, tests: list[Mapping[str, str]], until: float) -> float | None:
    if not tests:
        return None
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "program.py").write_bytes(program.encode(errors="replace"))
        printed = [_printed(str(one["input"]), folder, until) for one in tests]
    wanted = [_lines(str(one["output"])) for one in tests]
    return sum(one == right for one, right in zip(printed, wanted, strict=True)) / len(tests)


def _printed(given: str, folder: str, until: float) -> list[str] | None:
    """Return the lines that the program prints; None if it fails or there is no time."""
    with tempfile.TemporaryFile() as out:
        running = subprocess.Popen(  # noqa: S603 -- that is what a pool with a sandbox is for
            [sys.executable, "-I", "-S", "-c", _START, str(_MOST_OUTPUT)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            process_group=0,
        )
        try:
            running.communicate(given.encode(errors="replace"), max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        out.seek(0)
        return _lines(out.read().decode(errors="replace")) if running.returncode == 0 else None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
