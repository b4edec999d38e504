"""Rewards that may hang, which are called only where something can kill them."""

import os

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.worker_process import MARK

__all__ = ["is_worker", "refuse_outside_worker"]


def is_worker() -> bool:
    """Tell whether this process is one of a pool, which kills it where it hangs."""
    return MARK in os.environ


def refuse_outside_worker(name: str) -> None:
    """Raise a RewardError in a process that no pool of workers watches.

    Examples
    --------
    >>> refuse_outside_worker("math_match")
    Traceback (most recent call last):
        ...
    gspo_rs.rewards.errors.RewardError: math_match may hang, ...
    """
    if not is_worker():
        raise RewardError(
            f"{name} may hang, and is called only in a worker, which is killed then: give it by "
            f"name, 'gspo_rs.rewards.library:{name}', to `gspo-rs grade`, or to `gspo-rs train` "
            "with reward_workers"
        )
