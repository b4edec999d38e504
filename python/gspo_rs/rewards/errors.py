"""The error of reward functions."""

__all__ = ["RewardError"]


class RewardError(ValueError):
    """A reward function failed, or did not return a list of rewards."""
