"""Sums of the gradients of a linear head, chunk after chunk.

Letters: ``n`` tokens, of which ``c`` make a chunk, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gspo_rs.logprobs.chunk import GPU_ROWS, chunk_rows, live_runs
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
    own : Tensor, shape (n,), or None
        What the targets' own entries count, until `finish` adds them: where residuals lack them.
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    own: Tensor | None

    @classmethod
    def zeros(
        cls, inputs: tuple[Tensor, Tensor, Tensor | None], needed: tuple[bool, ...], *, own: bool
    ) -> Gradients:
        """Make room for the gradients of those of `inputs` (hidden, weight, bias) that need one."""
        hidden, weight, bias = (
            x.new_zeros(x.shape, dtype=sum_dtype(x)) if x is not None and need else None
            for x, need in zip(inputs, needed, strict=True)
        )
        entries = inputs[0].new_zeros(len(inputs[0]), dtype=sum_dtype(inputs[0])) if own else None
        return cls(hidden, weight, bias, entries)

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
            part, slopes = found.part(run), scale[run].to(found.logprobs.dtype)
            assert part.residual is not None
            if self.hidden is not None:
                product(part.residual, head.weight, self.hidden[at])
            scaled = (
                self._scaled(head, given, at, part, slopes)
                if head.kernels is None or part.own is None
                else self._scaled_at_once(head, given, at, part, slopes.contiguous())
            )
            if self.weight is not None:
                accumulate(self.weight, part.residual.T, *scaled)
            if self.bias is not None:
                self._add_bias(part, slopes * _factors(head, part))

    def _scaled(
        self, head: Head, given: tuple[Tensor, Tensor], at: slice, found: Rows, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scale the gradient of the hidden states `at`; return these, and what scales them."""
        hidden, targets = (x[at] for x in given)
        # Scaling the D columns of hidden is cheaper than scaling the V columns of the residual.
        scale = (slopes * _factors(head, found))[:, None]
        if self.hidden is not None:
            self.hidden[at].mul_(scale)
        if found.own is not None and self.own is not None:
            own = torch.mul(slopes, found.own, out=self.own[at])[:, None]
            if self.hidden is not None:
                self.hidden[at].add_(head.weight.index_select(0, targets) * own)
        return hidden, scale

    def _scaled_at_once(
        self, head: Head, given: tuple[Tensor, Tensor], at: slice, found: Rows, slopes: Tensor
    ) -> tuple[Tensor]:
        """Do what `_scaled` does in one launch, and return the hidden states scaled."""
        hidden, targets = (x[at] for x in given)
        assert head.kernels is not None
        assert self.own is not None
        # Of float16 the product wants all digits: it takes them in units of the largest.
        dtype = slopes.dtype if hidden.dtype == torch.float16 else hidden.dtype
        scaled = torch.empty_like(hidden, dtype=dtype)
        head.kernels.scale_rows(
            hidden,
            head.weight,
            targets,
            found,
            slopes=slopes,
            of_hidden=None if self.hidden is None else self.hidden[at],
            scaled=None if self.weight is None else scaled,
            own=self.own[at],
        )
        return (scaled,)

    def _add_bias(self, found: Rows, scale: Tensor) -> None:
        assert self.bias is not None
        assert found.residual is not None
        # In two parts: all tokens of a sequence may have one slope, and so one rounding.
        high = scale[:, None].to(found.residual.dtype)
        accumulate(self.bias[:, None], found.residual.T, high)
        if found.factors is not None:
            accumulate(self.bias[:, None], found.residual.T, scale[:, None] - high)

    def finish(self, head: Head, given: tuple[Tensor, Tensor]) -> None:
        """Add what the targets' own entries give, no factor of it rounded, after the last chunk."""
        if self.own is None:
            return
        hidden, targets = given
        if self.bias is not None:
            self.bias.index_put_((targets,), self.own, accumulate=True)
        if self.weight is None:
            return
        if head.kernels is not None:
            head.kernels.add_by_word(self.weight, hidden, targets, self.own)
            return
        # Sorted by target on a GPU, so that the same sums come out on every run.
        for rows in chunk_rows(len(hidden), GPU_ROWS):
            terms = hidden[rows] * self.own[rows, None]
            self.weight.index_put_((targets[rows],), terms, accumulate=True)


def _factors(head: Head, found: Rows) -> Tensor | float:
    """Return what a row of the residual is multiplied by to make it the gradient of the logits."""
    return 1 / -head.scaling.temperature if found.factors is None else found.factors


def rounded(
    sums: tuple[Tensor | None, ...],
    dtypes: tuple[torch.dtype | None, ...],
    grad: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Round each sum, times `grad` if that is given, to a dtype: once, last, and in one pass.

    What is rounded before it is scaled has lost in float16 what the scale is there to keep.
    """
    return tuple(
        None
        if total is None or dtype is None
        else total.to(dtype)
        if grad is None
        else torch.mul(total, grad, out=torch.empty_like(total, dtype=dtype))
        for total, dtype in zip(sums, dtypes, strict=True)
    )
