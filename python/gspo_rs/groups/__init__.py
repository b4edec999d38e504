"""Groups of rollouts: which rows belong together, and what their rewards say."""

from gspo_rs.groups.groups import Groups

__all__ = ["Groups"]
