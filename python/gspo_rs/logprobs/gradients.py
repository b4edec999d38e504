"""Sums of the gradients of a linear head, chunk after chunk.

Letters: ``n`` tokens, of which ``c`` make a chunk, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gspo_rs.logprobs.chunk import live_runs
from gspo_rs.logprobs.head import Head
from gspo_rs.logprobs.products import accumulate, product, sum_dtype
from gspo_rs.logprobs.rows import Rows

__all__ = ["Gradients", "rounded"]


@dataclass(frozen=True)
class Gradients:
    """Sums of gradients in float32 at least: in bfloat16 the later chunks would be rounded away.

    Attributes
    ----------
    hidden : Tensor, shape (n, D), or None
        None, here and below, where no gradient is asked.
    weight : Tensor, shape (V, D), or None
    bias : Tensor, shape (V,), or None
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, inputs: tuple[Tensor | None, ...], needed: tuple[bool, ...]) -> Gradients:
        """Make room for the gradients of those of `inputs` (hidden, weight, bias) that need one."""
        return cls(
            *(
                torch.zeros_like(x, dtype=sum_dtype(x)) if x is not None and need else None
                for x, need in zip(inputs, needed, strict=True)
            )
        )

    @property
    def sums(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Those of hidden, weight and bias."""
        return self.hidden, self.weight, self.bias

    def add(
        self, head: Head, given: tuple[Tensor, Tensor], rows: slice, found: Rows, scale: Tensor
    ) -> None:
        """Add those of a chunk whose tokens' log-probabilities count `scale`, (c,), in the loss.

        `given` are hidden states, (n, D), in the dtype of the products, and targets, (n,), of all
        tokens, none outside the vocabulary; `rows` are those of the chunk.
        """
        for run in live_runs(scale):
            at = slice(rows.start + run.start, rows.start + run.stop)
            hidden, targets = (x[at] for x in given)
            part, slope = found.part(run), scale[run].to(found.logprobs.dtype)
            unit = 1 / -head.scaling.temperature if part.factors is None else part.factors
            self._add_rest(head, hidden, at, part, (slope * unit)[:, None])
            if part.own is not None:
                self._add_own(head, hidden, targets, at, slope * part.own)

    def _add_rest(
        self, head: Head, hidden: Tensor, rows: slice, found: Rows, scale: Tensor
    ) -> None:
        """Add what the residual gives, the rows of which count `scale`, (c, 1)."""
        assert found.residual is not None
        # Scaling the D columns of hidden is cheaper than scaling the V columns of the residual.
        if self.hidden is not None:
            product(found.residual, head.weight, self.hidden[rows]).mul_(scale)
        if self.weight is not None:
            accumulate(self.weight, found.residual.T, hidden, scale)
        if self.bias is not None:
            # In two parts: all tokens of a sequence may have one slope, and so one rounding.
            high = scale.to(found.residual.dtype)
            accumulate(self.bias[:, None], found.residual.T, high)
            if found.factors is not None:
                accumulate(self.bias[:, None], found.residual.T, scale - high)

    def _add_own(
        self, head: Head, hidden: Tensor, targets: Tensor, rows: slice, own: Tensor
    ) -> None:
        """Add what the targets' own entries give, no factor of it rounded."""
        column = own[:, None]
        if self.hidden is not None:
            self.hidden[rows].add_(head.weight.index_select(0, targets) * column)
        # Sorted by target on a GPU, so that the same sums come out on every run.
        if self.weight is not None:
            self.weight.index_put_((targets,), hidden * column, accumulate=True)
        if self.bias is not None:
            self.bias.index_put_((targets,), own, accumulate=True)

    def apart(self) -> Gradients:
        """Make room for a sequence whose slope is not known yet; `hidden` is shared."""
        zeros = (
            None if total is None else torch.zeros_like(total) for total in (self.weight, self.bias)
        )
        return Gradients(self.hidden, *zeros)

    def absorb(self, apart: Gradients, slope: Tensor, rows: slice) -> None:
        """Add what was summed up apart for the tokens `rows`, scaled, and set it back to zero."""
        if self.hidden is not None:
            self.hidden[rows] *= slope
        for total, part in ((self.weight, apart.weight), (self.bias, apart.bias)):
            if total is not None and part is not None:
                total.addcmul_(part, slope)
                part.zero_()


def rounded(
    sums: tuple[Tensor | None, ...],
    dtypes: tuple[torch.dtype | None, ...],
    grad: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Round each sum, times `grad` if that is given, to a dtype: once, and last.

    What is rounded before it is scaled has lost in float16 what the scale is there to keep.
    """
    if grad is not None:
        sums = tuple(None if total is None else total * grad for total in sums)
    return tuple(
        None if total is None or dtype is None else total.to(dtype)
        for total, dtype in zip(sums, dtypes, strict=True)
    )
