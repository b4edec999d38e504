"""Run every benchmark that needs no GPU and no model, and write one JSON file of all ratios.

    python benches/run_all.py [--small] [--output runs/bench.json] [--only bench_score.py …]
    python benches/run_all.py --model <directory of the story model>     # training against TRL too

`--small` takes minutes in place of a quarter of an hour; ratios of the two are not comparable.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from measurement import refuse_debug_build
from results import FILE, conditions

FOLDER = Path(__file__).parent
# Script → its arguments in a full run, and in a small one.
BENCHMARKS = {
    "bench_groups.py": ("--suite short", "--suite small"),
    "bench_calls.py": ("", "--small"),
    "bench_score.py": ("", "--rows 500000 --only copy wide narrow 'Polars over' DuckDB"),
    "bench_losses.py": ("", ""),
    "bench_linear_gspo.py": ("", "--tokens 1024 --hidden 256 --vocabulary 16000 --longest 300"),
    "bench_sampling.py": ("", "--prompts 2"),
    "bench_step.py": ("", "--sequences 24 --vocabulary 8000"),
    "bench_buffer.py": ("", "--groups 20000"),
    "bench_grade.py": ("", "--rows 5000"),
}
# Never part of a run without it.
NEED_A_MODEL = ("train_against_trl.py", "compare_algorithms.py")
NEED_A_GPU = ("gpu_once.py",)
# Bytes beside an estimate, more threads beside fewer, two nodes beside one machine, waiting
# beside waiting: no ratio; and a disk full of rows, whose rivals take an hour.
NO_RIVAL = (
    "bench_memory.py",
    "bench_threads.py",
    "bench_ray.py",
    "bench_world.py",
    "bench_billion.py",
    "bench_ahead.py",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("runs/bench.json"))
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--model", help="also train this model, against TRL")
    options = parser.parse_args()
    refuse_debug_build()
    commands = [[name, *shlex.split(BENCHMARKS[name][options.small])] for name in options.only]
    if options.model:
        commands.append(["train_against_trl.py", "--model", options.model])
    else:
        print("not run: train_against_trl.py; give MODEL=<directory of a small story model>")
    found = {**conditions(), "small": options.small, "results": [], "failed": []}
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "results.jsonl"
        lines.touch()
        for name, *arguments in commands:
            print(f"\n## {' '.join([name, *arguments])}\n", flush=True)
            command = [sys.executable, FOLDER / name, *arguments]
            done = subprocess.run(command, env={**os.environ, FILE: str(lines)}, check=False)
            if done.returncode:
                found["failed"].append(name)
        found["results"] = [json.loads(line) for line in lines.read_text().splitlines()]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{len(found['results'])} ratios in {options.output}")
    if found["failed"]:
        sys.exit(f"error: {' '.join(found['failed'])} did not end well; what they say is above")


if __name__ == "__main__":
    main()
