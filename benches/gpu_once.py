"""Everything that has to be found out on a GPU, in one go and within a given time.

    benches/gpu_once.sh [--output runs/gpu]              # with a folder of wheels beside: WHEELS=…
    python benches/gpu_once.py --device cpu              # rehearses all of it, small

Stages: `smoke`, `tests` on a GPU, `memcheck`, the `ceilings` of the three products and of a copy, a
`sweep` of chunks, a training `step`, and `rivals`, each in a process of its own. What fails, or
finds no time, gets a row that says so, and the others go on. A row is written as soon as it is
known; the table at the end is made of the rows. Files in the output folder:

    rows.jsonl    one JSON object a row          table.md      the same to read
    tests.txt     what pytest printed            memcheck.txt  what compute-sanitizer found
    profile.txt   kernels of a training step     log.txt       all else that was printed
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gpu_stages
import gpu_step
import gpu_tools
import torch
from gpu_rivals import CONTENDERS
from gpu_table import table
from measurement import refuse_debug_build

FILES = ("rows.jsonl", "table.md", "tests.txt", "memcheck.txt", "profile.txt", "log.txt")
Stage = Callable[[argparse.Namespace], Iterator[dict[str, Any]]]
# Each with its seconds at most on a GPU; the rivals, of whom some may find no time, come last.
STAGES: dict[str, tuple[Stage, int]] = {
    "smoke": (gpu_stages.smoke, 60),
    "tests": (gpu_tools.tests, 100),
    "memcheck": (gpu_tools.memcheck, 70),
    "ceilings": (gpu_stages.ceilings, 40),
    "sweep": (gpu_stages.sweep, 80),
    "step": (gpu_step.step, 120),
    "rivals": (gpu_stages.rival, 45),
}
LEFT = 3.0
"""Seconds that are kept for the table, and below which nothing is begun."""
SIZES = {"tokens": 32_768, "length": 1024, "shape": (2048, 151_936), "rounds": 10}
SMALL = {"tokens": 512, "length": 64, "shape": (64, 2000), "rounds": 3}
CHUNKS = {"cuda": (512, 1024, 2048, 4096, 8192), "cpu": (16, 64, 256)}


def in_process(
    stage: Stage, name: str, options: argparse.Namespace, seconds: float
) -> dict[str, Any] | None:
    """Run a stage in a process of its own; return why it did not end well, if it did not.

    Forked, so that nothing is loaded twice: this process itself never touches the GPU.
    """
    child = get_context("fork").Process(target=_run, args=(stage, name, options))
    child.start()
    child.join(seconds)
    if child.is_alive():
        _end(child.pid)
        child.join()
        return {"state": "stopped", "says": f"not done after {seconds:.0f} s"}
    if child.exitcode:
        return {"state": "failed", "says": _reason(options.output, child.exitcode)}
    return None


def _run(stage: Stage, name: str, options: argparse.Namespace) -> None:
    os.setsid()  # so that what it starts ends with it
    with (options.output / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        for row in stage(options):
            write(options.output, {"stage": name, "state": "done", **row})


def _end(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(process, signal.SIGKILL)


def _reason(output: Path, code: int) -> str:
    """Return the last line of the log, which is that of an exception."""
    lines = [line for line in (output / "log.txt").read_text().splitlines() if line.strip()]
    last = lines[-1][:300] if lines else ""
    return f"{last} (exit {code})"


def write(output: Path, row: dict[str, Any]) -> None:
    with (output / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]


def go(options: argparse.Namespace) -> None:
    """Run all stages until the time is over."""
    began = time.monotonic()
    end = began + options.seconds - LEFT
    for name in options.stages:
        stage, most = STAGES[name]
        for who in options.rivals if name == "rivals" else (None,):
            options.only = who
            left = end - time.monotonic()
            wrong: dict[str, Any] | None = {"state": "no time", "says": "the time was over"}
            if left > LEFT:
                most = most if options.device.type == "cuda" else math.inf
                wrong = in_process(stage, name, options, min(left, most))
            if wrong is not None:
                write(options.output, {"stage": name, "name": who or name, **wrong})
            (options.output / "table.md").write_text(table(read(options.output)))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = {"stage": "once", "name": "seconds", "state": "done"}
    row |= {"wall": time.monotonic() - began, "processor": spent.ru_utime + spent.ru_stime}
    write(options.output, row)
    (options.output / "table.md").write_text(table(read(options.output)))


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    names = [one.name for one in CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="a new folder")
    parser.add_argument("--seconds", type=float, default=570, help="in all")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--rivals", nargs="+", choices=names, default=[*names, names[0]])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--length", type=int, help="tokens of a sequence")
    parser.add_argument("--shape", type=int, nargs=2, help="hidden size and vocabulary")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    sizes = SIZES if options.device.type == "cuda" else SMALL
    for name, value in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.chunks = CHUNKS[options.device.type]
    return options


def main() -> None:
    options = parsed()
    refuse_debug_build()
    options.output.mkdir(parents=True)  # what another run has found is not written over
    for name in FILES:
        (options.output / name).touch()
    go(options)
    print((options.output / "table.md").read_text())


if __name__ == "__main__":
    main()
