"""How many completions of a batch are done, counted now and then while it is sampled."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Progress(LogitsProcessor):
    """A logits processor that changes nothing and reports how many rows have ended.

    Parameters
    ----------
    report : callable
        Gets the number of completions that are done.
    ends : sequence of int
        End tokens.
    every : float
        Seconds between two reports at least: a count makes the CPU wait for the GPU.

    Examples
    --------
    >>> progress = Progress(print, ends=[0], every=0).after(torch.tensor([[5], [0]]))
    >>> _ = progress(torch.tensor([[5, 0, 0], [0, 7, 7]]), torch.zeros(2, 8))
    1
    >>> progress.add(2)
    2
    """

    def __init__(
        self, report: Callable[[int], object], *, ends: Sequence[int], every: float = 0.1
    ) -> None:
        self._report = report
        self._ends = torch.tensor(list(ends), dtype=torch.int64)
        self._every = every
        self._done = 0
        self._width = 0
        self._last = float("-inf")

    def after(self, prompts: Tensor) -> "Progress":
        """Count only what follows the prompts (n_prompts, P) of the next call."""
        self._width = prompts.shape[1]
        self._ends = self._ends.to(prompts.device)
        return self

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Report the rows of `input_ids` (B, P + T) that have an end token; return `scores`."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            ended = torch.isin(input_ids[:, self._width :], self._ends).any(dim=1)
            self._report(self._done + int(ended.sum()))
        return scores

    def add(self, rows: int) -> None:
        """Note that all `rows` of a call are done."""
        self._done += rows
        self._report(self._done)
