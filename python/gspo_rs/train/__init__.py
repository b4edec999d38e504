"""Training: the loop that teaches a policy to rank high in its own groups.

Names are imported on first use, so a mistake in a run file is reported before PyTorch is loaded.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gspo_rs import CalledModule

if TYPE_CHECKING:
    from gspo_rs.train.config.config import Config
    from gspo_rs.train.loop import Result, train
    from gspo_rs.train.rehearsal import Plan, plan

__all__ = ["Config", "Plan", "Result", "plan", "train"]

MODULE_OF = {"Config": "config.config", "Result": "loop", "train": "loop"}
MODULE_OF |= {"Plan": "rehearsal", "plan": "rehearsal"}

sys.modules[__name__].__class__ = CalledModule  # so that `gspo_rs.train(…)` is `train(…)`


def __getattr__(name: str) -> Any:
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
