"""Groups of rollouts: which rows belong together, and statistics of their rewards."""

from gspo_rs.groups.groups import Groups

__all__ = ["Groups"]
