"""Slopes of a clipped ratio of whole sequences, in one launch.

Letters: ``c`` tokens of a block, ``B`` its sequences.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gspo_rs.logprobs.kernels.checks import check

__all__ = ["ratio_slopes"]

BLOCK = 1024
"""Tokens of a sequence that a program takes at once."""


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["origin"],
    # Parts of vectors, which begin anywhere: it would be compiled for each way in which they do.
    do_not_specialize_on_alignment=[
        *("now_at", "old_at", "ends_at", "lengths_at", "pull_at", "least_at", "most_at"),
    ],
)
def _ratio_kernel(  # type: ignore[no-untyped-def]
    now_at, old_at, ends_at, lengths_at, pull_at, least_at, most_at, slopes_at, origin,
    block: tl.constexpr,
):  # fmt: skip
    """Give the tokens of a sequence its slope."""
    row = tl.program_id(0)
    length = tl.load(lengths_at + row)
    start = tl.load(ends_at + row) - length - origin
    sums = tl.full((block,), 0.0, now_at.dtype.element_ty)
    for first in range(0, length, block):
        at = first + tl.arange(0, block)
        now = tl.load(now_at + start + at, mask=at < length, other=0.0)
        sums += now - tl.load(old_at + start + at, mask=at < length, other=0.0).to(now.dtype)
    ratio = tl.exp(tl.sum(sums, axis=0) / tl.maximum(length, 1).to(sums.dtype))
    kept = tl.minimum(tl.maximum(ratio, tl.load(least_at + row)), tl.load(most_at + row))
    # Of a ratio that is no number neither is the slope.
    kept = tl.where(ratio == ratio, kept, ratio)
    slope = kept * tl.load(pull_at + row) * tl.where(kept == ratio, 1.0, 0.0).to(kept.dtype)
    for first in range(0, length, block):
        at = first + tl.arange(0, block)
        tl.store(slopes_at + start + at, tl.full((block,), 1.0, slope.dtype) * slope, at < length)


def ratio_slopes(
    logprobs: Tensor,
    old_logprobs: Tensor,
    sequences: tuple[Tensor, Tensor],
    *,
    pull: Tensor,
    bounds: tuple[Tensor, Tensor],
    origin: int,
) -> Tensor:
    """Return the slope of each token of a block: that of ``pull * clip(ratio)`` of its sequence.

    Parameters
    ----------
    logprobs, old_logprobs : Tensor, shape (c,)
        The ratio is the exponential of the mean of their difference.
    sequences : tuple of Tensor of int64, shape (B,)
        Where each sequence ends in the batch, and its tokens.
    pull : Tensor, shape (B,)
    bounds : tuple of Tensor, shape (B,)
        Beyond which the slope is 0.
    origin : int
        Token of the batch at which the block begins.

    Raises
    ------
    ValueError, TypeError
        If memory lies otherwise than the kernel reads it.
    """
    rows, old_logprobs = len(pull), old_logprobs.contiguous()
    check("old_logprobs", old_logprobs, logprobs, logprobs.shape, old_logprobs.dtype)
    for name, given in (("logprobs", logprobs), ("pull", pull)):
        check(name, given, logprobs, given.shape, logprobs.dtype)
    for given in bounds:
        check("bounds", given, logprobs, (rows,), logprobs.dtype)
    for given in sequences:
        check("sequences", given, logprobs, (rows,), torch.int64)
    slopes = torch.empty_like(logprobs)
    if rows == 0:
        return slopes
    with torch.cuda.device_of(logprobs):  # type: ignore[no-untyped-call]
        _ratio_kernel[(rows,)](
            logprobs, old_logprobs, *sequences, pull, *bounds, slopes, origin, block=BLOCK
        )
    return slopes
