"""Groups of rollouts: which rows belong together, and statistics of their rewards.

`Groups` is imported on first use, so the names of options are known without loading NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gspo_rs.groups.groups import Groups

__all__ = ["Groups"]


def __getattr__(name: str) -> Any:
    if name != "Groups":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gspo_rs.groups.groups import Groups

    return Groups
