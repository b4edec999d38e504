"""Group-based reinforcement learning of language models: exact group statistics, fast.

The array functions live here; ``gspo_rs.losses`` and ``gspo_rs.logprobs`` need PyTorch,
``gspo_rs.train`` needs transformers, and neither is imported unless you ask for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gspo_rs._core import __version__
from gspo_rs.advantages import advantage, advantage_from_wins
from gspo_rs.buffer import GroupBuffer
from gspo_rs.draws import best_of_n, pass_at_k
from gspo_rs.groups import Groups
from gspo_rs.overlong import soft_overlong_penalty
from gspo_rs.packing import pack
from gspo_rs.pairs import preference_pairs
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

if TYPE_CHECKING:
    from gspo_rs.files.scan import scan
    from gspo_rs.files.score import score
    from gspo_rs.files.verify import verify

__all__ = [
    "GroupBuffer",
    "GroupStats",
    "Groups",
    "__version__",
    "advantage",
    "advantage_from_wins",
    "best_of_n",
    "informative",
    "pack",
    "pass_at_k",
    "percentile",
    "preference_pairs",
    "quantile",
    "rank",
    "rows",
    "scan",
    "score",
    "soft_overlong_penalty",
    "stats",
    "top_fraction",
    "verify",
]

# What works on files needs Polars; it is loaded when it is first asked for.
LAZY = {
    "scan": "gspo_rs.files.scan",
    "score": "gspo_rs.files.score",
    "verify": "gspo_rs.files.verify",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LAZY[name]), name)
