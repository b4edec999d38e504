"""Group-based reinforcement learning of language models: exact group statistics, fast.

The array functions live here; ``gspo_rs.losses`` and ``gspo_rs.logprobs`` need PyTorch,
``gspo_rs.train`` needs transformers, and neither is imported unless you ask for it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gspo_rs._core import __version__
    from gspo_rs.files.scoring import score
    from gspo_rs.files.scoring.read_back import scan, verify
    from gspo_rs.groups.advantages import advantage, advantage_from_wins, soft_overlong_penalty
    from gspo_rs.groups.groups import Groups
    from gspo_rs.groups.packing import pack
    from gspo_rs.groups.pairs import preference_pairs
    from gspo_rs.groups.rows import rows
    from gspo_rs.groups.statistics import (
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
    from gspo_rs.rollouts.buffer import GroupBuffer

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
    "GroupBuffer": "rollouts.buffer",
    "GroupStats": "groups.statistics",
    "Groups": "groups.groups",
    "__version__": "_core",
    "advantage": "groups.advantages",
    "advantage_from_wins": "groups.advantages",
    "best_of_n": "groups.statistics",
    "informative": "groups.statistics",
    "pack": "groups.packing",
    "pass_at_k": "groups.statistics",
    "percentile": "groups.statistics",
    "preference_pairs": "groups.pairs",
    "quantile": "groups.statistics",
    "rank": "groups.statistics",
    "rows": "groups.rows",
    "scan": "files.scoring.read_back",
    "score": "files.scoring",
    "soft_overlong_penalty": "groups.advantages",
    "stats": "groups.statistics",
    "top_fraction": "groups.statistics",
    "verify": "files.scoring.read_back",
}


class _Moved(ModuleType):
    """A module under its old name, imported on first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(f"{__name__}.{MOVED[self.__name__]}"), name)


MOVED = {f"{__name__}.sampling": "samplers.transformers"}
sys.modules.update({name: _Moved(name) for name in MOVED})


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = found  # so that it is asked for once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
