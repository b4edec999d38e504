"""The words that options take; without a dependency, so that help can tell them at once."""

from typing import Literal, TypeAlias

__all__ = ["Layout", "Strategy"]

Layout: TypeAlias = Literal["wide", "narrow"]
"""Whether scores are written with all columns of the input, or alone."""

Strategy: TypeAlias = Literal["best_worst", "all", "best_random"]
"""Which pairs of a group are made."""
