"""Metrics of a step, under fixed names, and the file with one line per step."""

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.files import atomic
from gspo_rs.train.step.group_metrics import draw_metrics, mean_of_known, tie_metrics
from gspo_rs.train.step.minibatch import Minibatch


def describe(minibatch: Minibatch) -> dict[str, float]:
    """Describe rewards, advantages, groups and lengths of a minibatch.

    Parameters
    ----------
    minibatch : Minibatch
        Of one optimizer step.

    Returns
    -------
    dict of str to float
        ``reward/*`` over the scored rollouts, ``reward/overlong_penalty`` where there is one,
        ``adv/*``, ``group/*``, ``passk/*`` and ``bestofn/*`` (see
        `gspo_rs.train.step.group_metrics`), ``length/*`` in tokens, ``dropped_*``,
        ``zero_advantage_groups``, ``tokens`` and ``seqs`` trained on. Of several rewards
        ``reward/*`` is that of their sum, and each has ``reward/<name>/mean``. NaN where
        there is nothing to describe. A rollout of several sequences counts once in ``reward/*``,
        ``adv/*`` and ``group/*``.
    """
    sequences = minibatch.rollouts.sequences
    rewards, groups = minibatch.rollouts.reward[sequences.firsts], sequences.groups
    judged = sequences.firsts[~np.isnan(rewards)]
    scored = ~np.isnan(minibatch.rollouts.reward)
    truncated = minibatch.rollouts.truncated
    trained = minibatch.trained
    return {
        **_rewards(minibatch),
        **_penalty(minibatch),
        **_advantages(minibatch.advantages[judged]),
        "group/zero_variance_frac": mean_of_known(~minibatch.informative),
        "group/size_min": float(groups.sizes.min(initial=np.iinfo(np.int64).max)),
        "group/size_max": float(groups.sizes.max(initial=0)),
        **tie_metrics(rewards, groups),
        **draw_metrics(rewards, groups),
        "length/mean": mean_of_known(minibatch.lengths),
        "length/max": float(minibatch.lengths.max(initial=0)),
        "length/clipped_frac": math.nan if truncated is None else mean_of_known(truncated),
        "length/corr_adv": _correlation(
            minibatch.lengths[scored].astype(np.float64), minibatch.advantages[scored]
        ),
        "tokens": float(minibatch.lengths[trained].sum()),
        "seqs": float(len(trained)),
        "zero_advantage_groups": float(minibatch.flat),
        **{name: float(count) for name, count in minibatch.dropped.items()},
    }


def shares(
    shared: Mapping[str, float], steps: int, seconds: float, tokens: float
) -> dict[str, float]:
    """Return what a step took, with its share of what its batch of rollouts took.

    Parameters
    ----------
    shared : mapping of str to float
        Seconds of the batch.
    steps : int
        Optimizer steps of the batch.
    seconds, tokens : float
        Of this step.

    Returns
    -------
    dict of str to float
        ``time/step`` in seconds, the shares by their names, and ``speed/tokens_per_s``.

    Examples
    --------
    >>> shares({"time/generate": 3.0}, steps=2, seconds=0.5, tokens=10.0)
    {'time/generate': 1.5, 'time/step': 2.0, 'speed/tokens_per_s': 5.0}
    """
    found = {name: value / steps for name, value in shared.items()}
    found["time/step"] = seconds + sum(shared.values()) / steps
    return {**found, "speed/tokens_per_s": tokens / found["time/step"]}


def _rewards(minibatch: Minibatch) -> dict[str, float]:
    sequences = minibatch.rollouts.sequences
    rewards, codes = minibatch.rollouts.reward[sequences.firsts], sequences.groups.codes
    scored = ~np.isnan(rewards)
    rewards, codes = rewards[scored], codes[scored]
    if not len(rewards):
        return {}
    low, middle, high = np.quantile(rewards, [0.1, 0.5, 0.9])
    count = np.bincount(codes)
    means = np.bincount(codes, rewards)[count > 0] / count[count > 0]
    within = rewards - np.repeat(means, count[count > 0])  # rows are group after group
    return {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "reward/min": float(rewards.min()),
        "reward/max": float(rewards.max()),
        "reward/p10": float(low),
        "reward/p50": float(middle),
        "reward/p90": float(high),
        "reward/within_std": float(np.sqrt(np.square(within).mean())),
        "reward/between_std": float(means.std()),
        **{
            f"reward/{name}/mean": mean_of_known(column[sequences.firsts])
            for name, column in (minibatch.rollouts.rewards or {}).items()
        },
    }


def _penalty(minibatch: Minibatch) -> dict[str, float]:
    if minibatch.penalty is None:
        return {}
    return {"reward/overlong_penalty": mean_of_known(minibatch.penalty)}


def _advantages(advantages: NDArray[np.float64]) -> dict[str, float]:
    if not len(advantages):
        return {}
    return {
        "adv/mean": float(advantages.mean()),
        "adv/std": float(advantages.std()),
        "adv/abs_mean": float(np.abs(advantages).mean()),
        "adv/min": float(advantages.min()),
        "adv/max": float(advantages.max()),
        "adv/pos_frac": mean_of_known(advantages > 0),
        "adv/zero_frac": mean_of_known(advantages == 0),
    }


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(one) < 2 or one.min() == one.max() or other.min() == other.max():
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


class StepLines:
    """Appends one JSON object per step to a file, each step once even if the run resumes.

    Parameters
    ----------
    path : Path or None
        Made if absent; None where another process writes it.
    after : int
        The last step whose line is kept: the run takes later ones again. Below 0 none is.
    """

    def __init__(self, path: Path | None, after: int) -> None:
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [r for r in read(path) if r["step"] <= after] if after >= 0 else []
            atomic.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
            self._file = path.open("a", encoding="utf-8")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one more line."""
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class MetricsFile(StepLines):
    """The file with the metrics of each step."""

    def write(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """Append the finite values of `metrics` and return what was written."""
        record: dict[str, float] = {"step": step}
        record |= {name: value for name, value in metrics.items() if math.isfinite(value)}
        self.append(record)
        return record


def read(path: Path | str) -> list[dict[str, Any]]:
    """Read a metrics file.

    Parameters
    ----------
    path : Path or str
        A ``metrics.jsonl``; one that is absent has no steps.

    Returns
    -------
    list of dict of str to float
        One per step, in order, with the number of the step under ``step``. A last line that a
        killed process left unfinished is left out with a warning.

    Raises
    ------
    ValueError
        If another line is not JSON.
    """
    path = Path(path)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
            warnings.warn(f"{path}: the last line is unfinished, left out", stacklevel=2)
    return records
