"""Compare two runs of `run_all.py` by their ratios, never by seconds.

    python benches/compare_runs.py STORED FRESH [--tolerance 0.3]

A ratio that has fallen below the stored one by more than the tolerance is worse, and so is one
that is missing; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

Key = tuple[str, str, str, str]  # benchmark, rows, ours, rival


def read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        sys.exit(
            f"error: {path} is missing; `python benches/run_all.py --small --output {path}` on a "
            "quiet machine makes it"
        )


def ratios(run: dict) -> dict[Key, float]:
    return {
        (one["name"], f"{one['rows']:,}", one["ours"], one["rival"]): one["ratio"]
        for one in run["results"]
    }


def verdicts(
    stored: dict[Key, float], fresh: dict[Key, float], tolerance: float
) -> list[tuple[Key, str]]:
    """Say of every comparison of either run how it has gone."""
    found = []
    for key in [*stored, *(key for key in fresh if key not in stored)]:
        if key not in fresh:
            found.append((key, "missing"))
        elif key not in stored:
            found.append((key, "new"))
        elif fresh[key] < stored[key] / (1 + tolerance):
            found.append((key, "worse"))
        else:
            found.append((key, "better" if fresh[key] > stored[key] * (1 + tolerance) else "same"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stored", type=Path)
    parser.add_argument("fresh", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.3, help="0.3 is 30 %% slower")
    options = parser.parse_args()
    runs = [read(path) for path in (options.stored, options.fresh)]
    if runs[0]["small"] != runs[1]["small"]:
        sys.exit("error: one run is small and the other is not; run both with or without --small")
    for title, run in zip(("stored", "fresh"), runs, strict=True):
        machine = run["machine"]
        print(
            f"{title}: commit {run['commit']}, {machine['processor']}, {machine['cores']} cores, "
            f"load {machine['load']:.1f}"
        )
    stored, fresh = map(ratios, runs)
    print("\n| benchmark | rows | ours | rival | stored ratio | fresh ratio | |")
    print("|---|---:|---|---|---:|---:|---|")
    bad = 0
    for key, verdict in verdicts(stored, fresh, options.tolerance):
        cells = [f"{run[key]:.2f}" if key in run else "" for run in (stored, fresh)]
        print(f"| {' | '.join([*key, *cells])} | {verdict} |")
        bad += verdict in ("worse", "missing")
    print(f"\nratio: the rival's seconds over ours; {bad or 'none'} worse or missing")
    sys.exit(int(bad > 0))


if __name__ == "__main__":
    main()
