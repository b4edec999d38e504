"""Group-based reinforcement learning of language models: exact group statistics, fast.

The array functions live here; ``gspo_rs.losses`` and ``gspo_rs.logprobs`` need PyTorch,
``gspo_rs.train`` needs transformers, and neither is imported unless you ask for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gspo_rs._core import __version__
    from gspo_rs.advantages import advantage, advantage_from_wins, soft_overlong_penalty
    from gspo_rs.buffer import GroupBuffer
    from gspo_rs.files.scan import scan, verify
    from gspo_rs.files.score import score
    from gspo_rs.groups import Groups
    from gspo_rs.packing import pack
    from gspo_rs.pairs import preference_pairs
    from gspo_rs.row_columns import rows
    from gspo_rs.statistics import (
        GroupStats,
        best_of_n,
        informative,
        pass_at_k,
        percentile,
        quantile,
        rank,
        stats,
        top_fraction,
    )

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

# Where each name is; it is loaded when it is first asked for, because NumPy alone takes longer
# than Python itself. No name may be that of a module of ours, which would come in its place.
MODULE_OF = {
    "GroupBuffer": "buffer",
    "GroupStats": "statistics",
    "Groups": "groups",
    "__version__": "_core",
    "advantage": "advantages",
    "advantage_from_wins": "advantages",
    "best_of_n": "statistics",
    "informative": "statistics",
    "pack": "packing",
    "pass_at_k": "statistics",
    "percentile": "statistics",
    "preference_pairs": "pairs",
    "quantile": "statistics",
    "rank": "statistics",
    "rows": "row_columns",
    "scan": "files.scan",
    "score": "files.score",
    "soft_overlong_penalty": "advantages",
    "stats": "statistics",
    "top_fraction": "statistics",
    "verify": "files.scan",
}


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = found  # so that it is asked for once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
