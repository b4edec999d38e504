"""Median and spread of several calls, by events on a GPU and by the clock on a CPU, and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Spread:
    """Seconds of some calls: the median, the shortest and the longest."""

    median: float
    least: float
    most: float
    calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def timed(
    function: Callable[[Any], object], inputs: Sequence[Any], rounds: int, device: torch.device
) -> Spread:
    """Call a function with one input after another; each is warmed up with, untimed, before.

    Inputs take turns so that none of them is still in the cache. Events are read after all calls:
    the host does not wait between them, as it would not in a step.
    """
    for given in inputs:
        function(given)
    turns = [inputs[number % len(inputs)] for number in range(rounds)]
    if device.type != "cuda":
        return Spread.of([_clocked(function, given) for given in turns])
    torch.cuda.synchronize(device)
    events = []
    for given in turns:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function(given)
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize(device)
    return Spread.of([begin.elapsed_time(end) / 1e3 for begin, end in events])


def _clocked(function: Callable[[Any], object], given: Any) -> float:
    began = time.perf_counter()
    function(given)
    return time.perf_counter() - began


def peak(function: Callable[[], object], device: torch.device) -> float | None:
    """Return the MiB of a GPU that a call adds at its peak; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20
