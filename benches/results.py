"""What a run of benchmarks writes down: one comparison a line, then one JSON file.

A ratio is the rival's seconds over ours: 2 is twice as fast as the rival. It is what is kept and
compared; seconds depend on the machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Where a benchmark appends its comparisons, if `run_all.py` started it.
FILE = "GSPO_RS_BENCH_RESULTS"
PACKAGES = ("numpy", "polars", "torch", "transformers", "duckdb", "pandas", "trl", "verl")


def record(name: str, seconds: dict[str, float], *, ours: Collection[str], rows: int) -> None:
    """Write down how each of ours compares with each other contender on the same task."""
    if FILE not in os.environ:
        return
    lines = [
        {
            "name": name,
            "ours": mine,
            "rival": rival,
            "ratio": seconds[rival] / seconds[mine],
            "rows": rows,
            "seconds": {"ours": seconds[mine], "rival": seconds[rival]},
        }
        for mine in ours
        if mine in seconds
        for rival in seconds
        if rival not in ours
    ]
    with Path(os.environ[FILE]).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def commit() -> str:
    """Name the commit that is checked out, and whether files differ from it."""
    if shutil.which("git") is None:
        return "unknown"
    folder = Path(__file__).parent
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def conditions() -> dict[str, object]:
    """Say on what a run was made."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "commit": commit(),
        "machine": {
            "processor": names[0] if names else platform.machine(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    import gspo_rs

    found = {"gspo_rs": gspo_rs.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
