"""The ledger of a run: which completions of which prompts it has trained on, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gspo_rs.train import metrics
from gspo_rs.train.halfway import Halfway

__all__ = ["Ledger", "read"]


class Ledger(metrics.StepLines):
    """Appends a line a step to ``ledger.jsonl``: a group is in one line, however often a run ends.

    A line is ``{"step": 3, "trained": [[epoch, prompt, completions], …], "dropped": [[epoch,
    prompt], …]}``. A prompt is the number of its row among those that fit the model. Completions 0,
    1, … of a group are trained on in the step of its line, and again in later passes over its
    batch. What is dropped had no completion, or no signal where `dynamic_sampling` asks for one.

    Parameters
    ----------
    path : Path or None
        Made if absent; None where another process writes it.
    after : int
        Lines of later steps are dropped: the run takes those steps again.
    n_prompts : int
        Prompts of an epoch.
    """

    def __init__(self, path: Path | None, after: int, n_prompts: int) -> None:
        super().__init__(path, after)
        self._n = n_prompts

    def write(self, step: int, halfway: Halfway) -> None:
        """Append what a step of a batch has trained on, in the first pass over it.

        Parameters
        ----------
        step : int
            From 1.
        halfway : Halfway
            The batch, before this step is counted in it. Its groups have the numbers of visits as
            names, ``epoch * n_prompts + prompt``.
        """
        if self._file is None or halfway.done >= len(halfway.cuts):
            return
        rollouts = halfway.cuts[halfway.done].rollouts
        groups = zip(rollouts.group_ids or (), np.diff(rollouts.offsets).tolist(), strict=True)
        over = [] if halfway.done else halfway.left_out
        line = {
            "step": step,
            "trained": [[*divmod(number, self._n), size] for number, size in groups],
            "dropped": [[*divmod(number, self._n)] for number in over],
        }
        self.append(line)


def read(path: Path | str) -> list[dict[str, Any]]:
    """Read a ledger, one dict a step, in order; one that is absent has none."""
    found: list[dict[str, Any]] = metrics.read(path)
    return found
