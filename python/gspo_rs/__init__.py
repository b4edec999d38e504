"""Group-based reinforcement learning of language models: exact group statistics, fast.

The array functions live here; ``gspo_rs.losses`` and ``gspo_rs.logprobs`` need PyTorch,
``gspo_rs.train`` needs transformers, and neither is imported unless you ask for it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False  # as type checkers read it; to load `typing` takes as long as all else here

if TYPE_CHECKING:
    from inspect import Signature
    from typing import Any

    from gspo_rs._core import __version__
    from gspo_rs.conformance.doctor import doctor
    from gspo_rs.files.best import best
    from gspo_rs.files.filtered import filter  # noqa: A004 - never in its place here
    from gspo_rs.files.nested import explode, nest
    from gspo_rs.files.pairs import pairs
    from gspo_rs.files.scan import scan
    from gspo_rs.files.scoring import score
    from gspo_rs.files.scoring.read_back import verify
    from gspo_rs.files.stats import stats
    from gspo_rs.files.verl import verl
    from gspo_rs.groups.advantages import advantage, advantage_from_wins, soft_overlong_penalty
    from gspo_rs.groups.bradley_terry import bradley_terry
    from gspo_rs.groups.groups import Groups
    from gspo_rs.groups.packing import pack
    from gspo_rs.groups.pairs import preference_pairs
    from gspo_rs.groups.quantile_rewards import quantile_rewards
    from gspo_rs.groups.rows import rows
    from gspo_rs.groups.statistics import (
        GroupStats,
        best_of_n,
        informative,
        pass_at_k,
        percentile,
        quantile,
        rank,
        top_fraction,
    )
    from gspo_rs.report import report
    from gspo_rs.rewards.grading.run import grade
    from gspo_rs.rollouts.buffer import GroupBuffer
    from gspo_rs.train import train

__all__ = [
    "GroupBuffer",
    "GroupStats",
    "Groups",
    "__version__",
    "advantage",
    "advantage_from_wins",
    "best",
    "best_of_n",
    "bradley_terry",
    "doctor",
    "explode",
    "filter",
    "grade",
    "informative",
    "nest",
    "pack",
    "pairs",
    "pass_at_k",
    "percentile",
    "preference_pairs",
    "quantile",
    "quantile_rewards",
    "rank",
    "report",
    "rows",
    "scan",
    "score",
    "soft_overlong_penalty",
    "stats",
    "top_fraction",
    "train",
    "verify",
    "verl",
]

# Where each name is; it is loaded when it is first asked for, because NumPy alone takes longer
# than Python itself. No name may be that of a module of ours, which would come in its place, but
# those of `CALLED`: these modules can be called.
MODULE_OF = {
    "GroupBuffer": "rollouts.buffer",
    "GroupStats": "groups.statistics",
    "Groups": "groups.groups",
    "__version__": "_core",
    "advantage": "groups.advantages",
    "advantage_from_wins": "groups.advantages",
    "bradley_terry": "groups.bradley_terry",
    "best": "files.best",
    "best_of_n": "groups.statistics",
    "doctor": "conformance.doctor",
    "explode": "files.nested",
    "filter": "files.filtered",
    "grade": "rewards.grading.run",
    "informative": "groups.statistics",
    "nest": "files.nested",
    "pack": "groups.packing",
    "pairs": "files.pairs",
    "pass_at_k": "groups.statistics",
    "percentile": "groups.statistics",
    "preference_pairs": "groups.pairs",
    "quantile": "groups.statistics",
    "quantile_rewards": "groups.quantile_rewards",
    "rank": "groups.statistics",
    "rows": "groups.rows",
    "scan": "files.scan",
    "score": "files.scoring",
    "soft_overlong_penalty": "groups.advantages",
    "stats": "files.stats",
    "top_fraction": "groups.statistics",
    "verify": "files.scoring.read_back",
    "verl": "files.verl",
}

CALLED = ("report", "train")


class CalledModule(ModuleType):
    """A package that can be called as the function of its own name in it."""

    def __call__(self, *given: Any, **options: Any) -> Any:
        return self._function(*given, **options)

    @property
    def _function(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(self._function)


class _Moved(ModuleType):
    """A module under its old name, imported on first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module(f"{__name__}.{MOVED[self.__name__]}"), name)


MOVED = {f"{__name__}.sampling": "samplers.transformers"}
sys.modules.update({name: _Moved(name) for name in MOVED})


def __getattr__(name: str) -> Any:
    if name in CALLED:
        return import_module(f"{__name__}.{name}")
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = found  # so that it is asked for once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
