"""A band for ratios, and the ratios that are clipped to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["Band", "Level"]

Level = Literal["sequence", "token"]


@dataclass(frozen=True)
class Band:
    """Ratios and advantages, whose sign decides which side of a band clips.

    Attributes
    ----------
    low, high : float
        The band is ``1 - low`` to ``1 + high``.
    ratio : Tensor, shape (B,) at the level of sequences, else that of the tokens
        Bounded and detached; 1 outside the mask.
    advantages : Tensor, shape (B,) if `by_sequence`, else that of the tokens, or (B, 1)
        0 outside the mask, if they are those of the tokens.
    level : {"sequence", "token"}
        Whether the ratio is that of the sequence or of the token.
    by_sequence : bool
        Whether there is one advantage per sequence.
    """

    low: float
    high: float
    ratio: Tensor
    advantages: Tensor
    level: Level = "token"
    by_sequence: bool = False
