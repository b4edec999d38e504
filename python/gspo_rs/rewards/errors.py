"""The errors of reward functions."""

from gspo_rs.files.failures import FailureLimitError

__all__ = ["FailureLimitError", "GradingError", "RewardError"]


class RewardError(ValueError):
    """A reward function failed, or did not return a list of rewards."""


class GradingError(RewardError):
    """A row could not be graded by a pool of workers, or the workers could not be started.

    Attributes
    ----------
    trace : str
        The traceback of what a reward function raised, where there is one.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace
