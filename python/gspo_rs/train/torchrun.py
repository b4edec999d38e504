"""What torchrun tells the processes that it starts, read without PyTorch."""

import os

__all__ = ["WorldError", "local_rank", "rank", "several", "size"]


class WorldError(RuntimeError):
    """Processes that do not come together, or do not run the same; the message names the rank."""


def size() -> int:
    """Return how many processes there are: ``WORLD_SIZE``, 1 without it.

    Raises
    ------
    WorldError
        If it is no number of processes.
    """
    given = _given()
    if not given.isdigit() or int(given) < 1:
        raise WorldError(f"WORLD_SIZE = {given}: give the number of processes, or unset it")
    return int(given)


def several() -> bool:
    """Return whether this process is one of several, whatever their number is said to be."""
    return _given() != "1"


def rank() -> str:
    """Return which of them this is, as it was told."""
    return os.environ.get("RANK", "?") if several() else "0"


def local_rank() -> int:
    """Return which of the processes of this machine this is: ``LOCAL_RANK``, 0 without it.

    Raises
    ------
    WorldError
        If it is no number.
    """
    given = os.environ.get("LOCAL_RANK", "").strip() or "0"
    if not given.isdigit():
        raise WorldError(f"LOCAL_RANK = {given}: give the number of the process on this machine")
    return int(given)


def _given() -> str:
    return os.environ.get("WORLD_SIZE", "").strip() or "1"
