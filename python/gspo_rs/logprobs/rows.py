"""What a linear head gives for some tokens, and memory for it.

Letters: ``c`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rows", "matrix"]

EVEN = 64
"""Rows of a matrix on a GPU begin at multiples of this many numbers, 128 bytes in bfloat16."""


@dataclass(frozen=True)
class Rows:
    """What a head gives for the targets of some tokens.

    The gradient of a target's log-probability for the output of the head is the token's row of
    `residual` over minus the temperature. Where that is narrower than float32, it is the row times
    the token's factor, and at the target its own entry, which the row lacks: that is most of the
    gradient, and would lose most by being rounded.

    Attributes
    ----------
    logprobs : Tensor, shape (c,)
        In float32 at least, as all but the residual.
    entropy : Tensor, shape (c,), or None
        Of the distributions; None, here and below, where it is not wanted.
    residual : Tensor, shape (c, V), or None
        ``softmax - one-hot`` times the slope of the soft cap; or the first alone, times a row's
        sum, and 0 at the target.
    factors, own : Tensor, shape (c,), or None
        Minus one over that sum and the temperature, and the entry of the target. None where the
        residual is whole.
    """

    logprobs: Tensor
    entropy: Tensor | None = None
    residual: Tensor | None = None
    factors: Tensor | None = None
    own: Tensor | None = None

    @classmethod
    def like(cls, sums: Tensor, n: int, *, entropy: bool = False) -> Rows:
        """Make room for log-probabilities and entropies of ``n`` tokens in the dtype of `sums`."""
        return cls(sums.new_empty(n), sums.new_empty(n) if entropy else None)

    def with_residual(self, residual: Tensor) -> Rows:
        """Return these with memory that there is for the residual, and room for what it lacks."""
        apart = residual.dtype != self.logprobs.dtype
        factors, own = (torch.empty_like(self.logprobs) if apart else None for _ in range(2))
        return Rows(self.logprobs, self.entropy, residual, factors, own)

    def part(self, rows: slice) -> Rows:
        """Return those of some of the tokens, in the same memory."""
        entropy, residual, factors, own = (
            None if x is None else x[rows]
            for x in (self.entropy, self.residual, self.factors, self.own)
        )
        return Rows(self.logprobs[rows], entropy, residual, factors, own)


def matrix(n: int, words: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an empty matrix (n, words), on a GPU with rows that begin at even places.

    With an odd vocabulary they would begin anywhere, and be read and multiplied number by number.

    Examples
    --------
    >>> matrix(3, 5, torch.empty(()), torch.float32).shape
    torch.Size([3, 5])
    """
    stride = -(-words // EVEN) * EVEN if like.is_cuda else words
    return like.new_empty((n, stride), dtype=dtype)[:, :words]
