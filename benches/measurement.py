"""How benchmarks measure: of a release build, in turns, each contender in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gspo_rs import _core

# Seconds of a contender's turn; a call that takes longer is made once.
TURN = 0.1


def refuse_debug_build() -> None:
    """End a benchmark whose core was built without optimisation: its times mean nothing."""
    if _core.BUILD_PROFILE != "release":
        sys.exit(
            f"error: gspo_rs._core is a {_core.BUILD_PROFILE} build, whose times mean nothing; "
            "build the release one with `make setup` or `maturin develop --release`"
        )


def turns(
    runs: dict[str, Callable[[], object]], repeats: int, *, turn: float = TURN
) -> dict[str, float]:
    """Let the contenders take turns, so that a busy minute slows all of them: their least times.

    A short call is repeated within its turn: what the contender before has left, such as threads
    that still spin, is not its own time.
    """
    best = dict.fromkeys(runs, math.inf)
    for _ in range(repeats):
        for name, run in runs.items():
            began = start = time.perf_counter()
            while True:
                run()
                now = time.perf_counter()
                best[name] = min(best[name], now - start)
                if now - began >= turn:
                    break
                start = now
    return best


@dataclass
class Spent:
    """What a block has taken: seconds of the clock and of all cores, and MiB at its peak."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0  # of the process
    added: float = 0.0  # by the block


@contextmanager
def spending() -> Iterator[Spent]:
    """Measure a block of this process; the figures are there when it ends."""
    # Not `ru_maxrss`, which a process takes over from the one that started it.
    Path("/proc/self/clear_refs").write_text("5")  # lets the peak start from here
    spent, before = Spent(), _mebibytes("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, time.process_time() - cpu
    spent.peak = _mebibytes("VmHWM")
    spent.added = spent.peak - before


def _mebibytes(line: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


def answer(figures: Spent | dict[str, float]) -> None:
    """Tell the process that asked, as the last line of what is printed."""
    print(json.dumps(asdict(figures) if isinstance(figures, Spent) else figures))


def ask(
    script: str, *arguments: str | Path, environment: dict[str, str] | None = None
) -> dict[str, float]:
    """Run a script in a process of its own and return its answer."""
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {Path(script).name} {' '.join(map(str, arguments))}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
