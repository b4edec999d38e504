"""What a run says while it works: the protocol, and one that says nothing."""

from typing import Protocol

__all__ = ["Report", "silent"]


class Report(Protocol):
    """Says what a run is doing, and how much of it is done."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Say that `done` of `total` completions are there; 0 where nobody counts."""


def silent(what: str, done: int = 0, total: int = 0) -> None:
    """Report nothing."""
