"""Clipped ratios: the pessimistic loss, and the bounds it accepts."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, maximum

from gspo_rs.losses.band import Level
from gspo_rs.losses.layout import LOG_RATIO_BOUND, bounded_exp

WIDE_SEQUENCE_CLIP = 0.02
"""A clip above this hardly ever acts on a sequence ratio, which is a mean over its tokens."""


def clipped(
    ratio: Tensor, advantages: Tensor, low: float, high: float, cap: float | None = None
) -> Tensor:
    """Return the pessimistic one of the free and the clipped loss; `cap` bounds the free one."""
    free = ratio if cap is None else ratio.clamp(max=cap)
    return maximum(-free * advantages, -ratio.clamp(1 - low, 1 + high) * advantages)


def clipped_slopes(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float, cap: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bounded ratio of a log-ratio, the pessimistic loss, and its derivative."""
    ratio = bounded_exp(log_ratio)
    free, bound = -ratio * advantages, -ratio.clamp(1 - low, 1 + high) * advantages
    moves = (log_ratio.abs() <= LOG_RATIO_BOUND) & (free >= bound)
    if cap is None:
        return ratio, maximum(free, bound), free * moves
    slopes = free * (moves & (ratio <= cap))
    return ratio, clipped(ratio, advantages, low, high, cap), slopes


def check_clip(low: float, high: float, level: Level) -> None:
    """Refuse a negative clip, and warn of a token's clip on the ratio of a sequence."""
    if not (low >= 0 and high >= 0):
        raise ValueError(f"clip_low={low} and clip_high={high} should be at least 0")
    if level == "sequence" and max(low, high) > WIDE_SEQUENCE_CLIP:
        # In a graph that serves several clips they are no numbers to be written.
        tracing = torch.compiler.is_compiling()
        _warn_of_wide("clips above 0.02" if tracing else f"clip_low={low}, clip_high={high}")


# A graph cannot warn: what makes it does.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _warn_of_wide(clip: str) -> None:
    warnings.warn(
        f"{clip} hardly ever clip a sequence ratio, which is a "
        "geometric mean over tokens; the GSPO paper has 3e-4 and 4e-4",
        stacklevel=4,
    )


def cap_of(dual_clip: float | None, delta: float | None, clip_high: float) -> float | None:
    """Return the bound that dual clip and two-sided clip both are."""
    if dual_clip is not None and delta is not None:
        raise ValueError(f"dual_clip={dual_clip} and delta={delta} are the same bound; give one")
    cap = delta if dual_clip is None else dual_clip
    if cap is not None and not cap > 1 + clip_high:
        raise ValueError(
            f"{'delta' if dual_clip is None else 'dual_clip'}={cap} should be above "
            f"1 + clip_high = {1 + clip_high}"
        )
    return cap
