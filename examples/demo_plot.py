"""The demo's picture: how the policy rose, and where its rewards lie before and after."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt


def draw(path: Path, metrics: Sequence[dict], before: np.ndarray, after: np.ndarray) -> None:
    """Write the picture of a run.

    `metrics` are the records of its steps; `before` and `after` the rewards of the starting and
    the trained policy on the same held-out prompts.
    """
    figure, (rise, spread) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    steps, rewards = _course(metrics, "reward/mean")
    rise.plot(steps, rewards, color="tab:blue", alpha=0.35, linewidth=1)
    rise.plot(steps, _smooth(rewards), color="tab:blue", label="mean reward of the group")
    steps, shares = _course(metrics, "eval/percentile")
    rise.plot(
        steps, shares, "o-", color="tab:orange", label="share of the start's completions beaten"
    )
    rise.axhline(0.5, color="grey", linewidth=0.8, linestyle="dotted")
    rise.set(xlabel="optimizer step", ylim=(0, 1), title="The policy rises in its groups")
    rise.legend(loc="lower right")
    bins = np.linspace(0, 1, 13)
    for rewards, name, colour in ((before, "start", "grey"), (after, "trained", "tab:green")):
        label = f"{name}, mean {rewards.mean():.2f}"
        weights = np.full(rewards.size, 1 / rewards.size)
        spread.hist(rewards.ravel(), bins, weights=weights, color=colour, alpha=0.6, label=label)
    spread.set(xlabel="reward", ylabel="share of completions", title="Words that were held out")
    spread.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _course(metrics: Sequence[dict], name: str) -> tuple[list[float], np.ndarray]:
    known = [(record["step"], record[name]) for record in metrics if name in record]
    return [step for step, _ in known], np.array([value for _, value in known])


def _smooth(values: np.ndarray, window: int = 9) -> np.ndarray:
    """Return the mean of the `window` values around each, of fewer at both ends."""
    window = min(window, len(values))
    weights = np.convolve(np.ones(len(values)), np.ones(window), mode="same")
    return np.convolve(values, np.ones(window), mode="same") / weights
