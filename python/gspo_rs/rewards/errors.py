"""The errors of reward functions."""

__all__ = ["GradingError", "RewardError"]


class RewardError(ValueError):
    """A reward function failed, or did not return a list of rewards."""


class GradingError(RewardError):
    """A row could not be graded by a pool of workers, or the workers could not be started."""
