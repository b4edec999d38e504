"""Group-based reinforcement learning of language models: exact group statistics, fast.

The array functions live here; ``gspo_rs.losses`` and ``gspo_rs.logprobs`` need PyTorch,
``gspo_rs.train`` needs transformers, and neither is imported unless you ask for it.
"""

from gspo_rs._core import __version__
from gspo_rs.advantages import advantage
from gspo_rs.groups import Groups
from gspo_rs.packing import pack
from gspo_rs.rows import rows
from gspo_rs.statistics import (
    GroupStats,
    informative,
    percentile,
    quantile,
    rank,
    stats,
    top_fraction,
)

__all__ = [
    "GroupStats",
    "Groups",
    "__version__",
    "advantage",
    "informative",
    "pack",
    "percentile",
    "quantile",
    "rank",
    "rows",
    "stats",
    "top_fraction",
]
