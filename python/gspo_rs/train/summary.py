"""What a run says when it is over: the curve, where its time went, and what to look at next."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gspo_rs.train import checkpoint
from gspo_rs.train.curve import blocks
from gspo_rs.train.shown import packed, short

__all__ = ["PHASES", "advice", "near", "summary"]

Record = Mapping[str, float]

# What a person calls it → the metric with its seconds.
PHASES = {
    "reference": "reference",
    "sample": "time/generate",
    "wait for samples": "time/wait",
    "refresh the sampler": "time/refresh",
    "reward": "time/score",
    "read": "time/read",
    "prepare": "time/prepare",
    "forward and backward": "time/backward",
    "optimizer": "time/optimizer",
    "eval": "time/eval",
    "checkpoint": "checkpoint",
}
_MANY = 0.2
"""Shares from which on a remark is made."""


def summary(
    records: Sequence[Record],
    seconds: Mapping[str, float],
    elapsed: float,
    folder: Path,
    *,
    ascii_only: bool = False,
) -> list[str]:
    """Return the lines of text at the end of a run, none of which is wider than its paths need.

    Parameters
    ----------
    records : sequence of mapping
        All steps of the run, those before a resume too.
    seconds : mapping of str to float
        By the names that `PHASES` has; of this process.
    elapsed : float
        Seconds of this process in all.
    folder : Path
        Of the run.
    ascii_only : bool
        Whether the terminal knows no other characters.
    """
    lines = [""]
    known = [(r["step"], r["reward/mean"]) for r in records if "reward/mean" in r]
    if known:
        steps, rewards = zip(*known, strict=True)
        lines += [
            f"reward {short(rewards[0])} at step {steps[0]:,.0f},"
            f" {short(rewards[-1])} at step {steps[-1]:,.0f}"
        ]
        lines += [*blocks(steps, rewards, ascii_only=ascii_only), ""]
    return [*lines, *_times(seconds, elapsed), *advice(records), *_next(folder), ""]


def _times(seconds: Mapping[str, float], elapsed: float) -> list[str]:
    parts = {name: seconds.get(metric, 0.0) for name, metric in PHASES.items()}
    parts["other"] = max(elapsed - math.fsum(parts.values()), 0.0)
    texts = [f"{name} {value:,.1f}" for name, value in parts.items() if value >= 0.05]
    return packed([f"seconds {elapsed:,.1f}:", *texts], 79, gap="  ")


def advice(records: Sequence[Record]) -> list[str]:
    """Say what the metrics of a run show, each only where it holds.

    Parameters
    ----------
    records : sequence of mapping
        All steps.

    Returns
    -------
    list of str
        Sentences of at most 79 characters a line.

    Examples
    --------
    >>> advice([{"step": 1, "length/clipped_frac": 0.5}])
    ['50% of completions were cut off at max_completion_length']
    """
    found = []
    beaten = [r["eval/percentile"] for r in records if r["step"] and "eval/percentile" in r]
    if beaten:
        found.append(f"a completion beats {beaten[-1]:.0%} of those of the start, ties half")
    silent = _mean(records, "group/zero_variance_frac")
    if silent >= _MANY:
        found.append(f"{silent:.0%} of groups had no signal{_why(records)}")
    thrown = _mean(records, "dynamic_sampling/thrown_frac")
    if thrown >= _MANY:
        found.append(f"{thrown:.0%} of groups had no signal and were thrown away")
    cut = _mean(records, "length/clipped_frac")
    if cut >= _MANY:
        found.append(f"{cut:.0%} of completions were cut off at max_completion_length")
    for name, meaning in (
        ("skipped", "loss or gradient were not finite: the weights stayed as they were"),
        ("dropped_unscorable", "completions got no reward"),
        ("dropped_long", "completions were too long for the model"),
    ):
        steps = sum(bool(r.get(name)) for r in records)
        if steps:
            found.append(f"in {steps:,} steps {meaning}")
    if long := sum(int(r.get("dropped_prompts", 0)) for r in records):
        found.append(f"{long:,} prompts were left out: they are too long to sample for")
    return found


def _why(records: Sequence[Record]) -> str:
    """Say whether groups without signal are all right or all wrong, where that can be said."""
    steps = [r for r in records if "group/zero_variance_frac" in r]
    if not all("passk/1" in r for r in steps):  # only there a reward of 1 is right
        return ""
    best, worst = (_mean(steps, f"group/all_{end}") for end in ("best", "worst"))
    parts = [f"{best:.0%} all right (too easy)"] if best >= _MANY / 2 else []
    parts += [f"{worst:.0%} all wrong (too hard)"] if worst >= _MANY / 2 else []
    return f": {', '.join(parts)}" if parts else ""


def _mean(records: Sequence[Record], name: str) -> float:
    known = [r[name] for r in records if name in r]
    return float(np.mean(known)) if known else 0.0


def _next(folder: Path) -> list[str]:
    """Name what the run has written, and the commands that read it."""
    here = near(folder)
    kept = checkpoint.steps(folder)
    lines = ["next", f"  {here / 'metrics.jsonl'}: every metric of every step"]
    if kept:
        lines.append(f"  {here / kept[-1].name}: the newest checkpoint")
    if any((folder / "completions").glob("*.parquet")):
        logged = shlex.quote(str(here / "completions"))
        lines.append(f"  gspo-rs report {logged} --by prompt_id -o report.html")
    lines.append(f"  {here / 'final'}: the model, for from_pretrained")
    return lines


def near(folder: Path) -> Path:
    """Return a path as a person types it here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
