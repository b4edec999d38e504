"""One pass over a linear head: log-probabilities and the gradients of their loss.

Letters: ``n`` tokens, ``B`` sequences, ``D`` hidden size, ``V`` vocabulary, ``c`` tokens a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gspo_rs.logprobs.chunk import Scaling, chunk_rows, default_chunk_size
from gspo_rs.logprobs.gradients import Gradients, rounded
from gspo_rs.logprobs.head import Head
from gspo_rs.logprobs.linear import checked
from gspo_rs.logprobs.rows import Rows

__all__ = ["Loss", "Slopes", "one_pass", "one_pass_with_entropy", "slopes_of"]

Loss = Callable[[Tensor, slice, slice], Tensor]
"""The loss of some sequences, given the log-probabilities of their tokens, which tokens of the
batch those are, and which sequences."""
Slopes = Callable[[Tensor, slice, slice], Tensor]
"""The slope of such a loss for each of the log-probabilities, (tokens,)."""


def slopes_of(loss: Loss) -> Slopes:
    """Return the slopes of a loss, taken by autograd.

    Examples
    --------
    >>> slopes_of(lambda logprobs, tokens, rows: -2 * logprobs.sum())(torch.zeros(2), ..., ...)
    tensor([-2., -2.])
    """

    def slopes(logprobs: Tensor, tokens: slice, rows: slice) -> Tensor:
        leaf = logprobs.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(leaf, tokens, rows)
        return torch.autograd.grad(value, leaf)[0]

    return slopes


def one_pass(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    slopes: Slopes,
    *,
    lengths: list[int] | None,
    bias: Tensor | None = None,
    scaling: Scaling,
    chunk_size: int | None = None,
    near: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute log-probabilities under a linear head and the gradients of their loss together.

    Parameters
    ----------
    hidden, weight, targets, bias, chunk_size
        As in `linear_logprobs`.
    slopes : callable
        Called as ``slopes(logprobs, tokens, rows)`` with the log-probabilities of the tokens
        ``tokens`` of the batch, which are those of the sequences ``rows``; returns the slope of the
        loss for each. The loss is a sum over sequences. `slopes_of` takes them from a loss.
    lengths : list of int, or None
        Tokens of each sequence. None if `slopes` do not depend on the log-probabilities.
    scaling : Scaling
        Of the logits.
    near : Tensor, shape (n,), optional
        Log-probabilities of the targets under a policy like this one, such as the old policy or
        the sampler: they tell a row's normaliser before its softmax, which saves a GPU a pass. A
        row for which they tell it wrongly takes that pass.

    Returns
    -------
    gradient : Tensor, scalar
        0; added to the value of the loss, it gives it the gradients.
    logprobs : Tensor, shape (n,)
        Detached, in float32 at least.
    """
    plan = _Plan(slopes, lengths, scaling, entropy=False, near=near)
    return _walked((hidden, weight, targets, bias), plan, chunk_size)[:2]


def one_pass_with_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    slopes: Slopes,
    *,
    lengths: list[int] | None,
    bias: Tensor | None = None,
    scaling: Scaling,
    chunk_size: int | None = None,
    near: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take what `one_pass` does, and the entropy of each token's distribution with it.

    Parameters
    ----------
    hidden, weight, targets, slopes, lengths, bias, scaling, chunk_size, near
        As in `one_pass`.

    Returns
    -------
    gradient, logprobs
        As `one_pass` returns them.
    entropy : Tensor, shape (n,)
        Detached, in nats.
    """
    plan = _Plan(slopes, lengths, scaling, entropy=True, near=near)
    given = hidden, weight, targets, bias
    gradient, logprobs, entropy = _walked(given, plan, chunk_size)
    assert entropy is not None
    return gradient, logprobs, entropy


def _walked(
    given: tuple[Tensor, Tensor, Tensor, Tensor | None], plan: _Plan, chunk_size: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    dtype = checked(*given, chunk_size=chunk_size)
    hidden, weight, targets, bias = given
    (n, width), vocabulary = hidden.shape, weight.shape[0]
    if chunk_size is None:
        chunk_size = default_chunk_size(
            vocabulary, hidden.device, dtype=dtype, longest=plan.longest, width=width
        )
    plan = replace(
        plan,
        chunk_size=min(chunk_size, max(n, 1)),
        dtype=dtype,
        differentiable=torch.is_grad_enabled(),
    )
    found: tuple[Tensor, Tensor, Tensor | None] = _OnePass.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, plan
    )
    return found


@dataclass(frozen=True)
class _Plan:
    """How the tokens are walked through, and what their log-probabilities are taken for."""

    slopes: Slopes
    lengths: list[int] | None
    scaling: Scaling
    entropy: bool
    near: Tensor | None
    chunk_size: int = 1
    dtype: torch.dtype = torch.float32
    differentiable: bool = True

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence whose slope has to be waited for."""
        return max(self.lengths or [0])

    def blocks(self, n: int) -> Iterator[tuple[slice, slice]]:
        """Cut into tokens, and their sequences, whose slopes are known together.

        A block is as many whole sequences as fit in a chunk, or one that does not fit.
        """
        if self.lengths is None:
            yield from ((tokens, slice(None)) for tokens in chunk_rows(n, self.chunk_size))
            return
        first = start = end = 0
        for row, length in enumerate(self.lengths):
            if end > start and end + length > start + self.chunk_size:
                yield slice(start, end), slice(first, row)
                first, start = row, end
            end += length
        if end > start:
            yield slice(start, end), slice(first, len(self.lengths))

    def chunks(self, tokens: slice) -> list[slice]:
        """Cut a block into the fewest chunks, of like size."""
        length = tokens.stop - tokens.start
        size = math.ceil(length / math.ceil(length / self.chunk_size))
        at = tokens.start
        return [slice(at + chunk.start, at + chunk.stop) for chunk in chunk_rows(length, size)]

    def slopes_in(self, logprobs: Tensor) -> Callable[[slice, slice], Tensor]:
        """Give the slope of the loss for each log-probability of a block."""
        if self.lengths is not None:
            return lambda tokens, rows: self.slopes(logprobs[tokens], tokens, rows)
        known = self.slopes(logprobs, slice(None), slice(None))
        return lambda tokens, _: known[tokens]


class _OnePass(torch.autograd.Function):
    """The head and all gradients, in the forward pass; backward only multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: _Plan
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        inputs, n = (hidden, weight, bias), hidden.shape[0]
        needed = tuple(plan.differentiable and need for need in ctx.needs_input_grad[:3])
        hidden, weight = hidden.to(plan.dtype).contiguous(), weight.to(plan.dtype)
        head = Head.of(weight, bias, plan.scaling, plan.chunk_size, residual=any(needed))
        gradients = Gradients.zeros((hidden, weight, bias), needed, own=head.narrow)
        out = Rows.like(head.logits, n, entropy=plan.entropy)
        out.logprobs.zero_()  # a loss may be asked for its slopes before all are known
        given, slopes = (hidden, targets.clamp(0, len(weight) - 1)), plan.slopes_in(out.logprobs)

        def read(chunk: slice, into: Rows, near: Tensor | None, *, residual: bool) -> Rows:
            near = None if near is None else near[chunk]
            return head.rows(hidden[chunk], targets[chunk], into, residual=residual, near=near)

        for tokens, rows in plan.blocks(n):
            *firsts, last = plan.chunks(tokens)
            for chunk in firsts:
                read(chunk, out.part(chunk), plan.near, residual=False)
            found = read(last, out.part(last), plan.near, residual=any(needed))
            if not any(needed):
                continue
            scale = slopes(tokens, rows)
            gradients.add(head, given, last, found, scale[last.start - tokens.start :])
            # What a chunk has no room for is read again, once the slopes are known.
            for chunk in firsts:
                fresh = Rows.like(head.logits, chunk.stop - chunk.start)
                found = read(chunk, fresh, out.logprobs, residual=True)
                of_chunk = scale[chunk.start - tokens.start : chunk.stop - tokens.start]
                gradients.add(head, given, chunk, found, of_chunk)
        gradients.finish(head, given)
        ctx.save_for_backward(*gradients.sums)
        ctx.dtypes = tuple(None if x is None else x.dtype for x in inputs)
        ctx.mark_non_differentiable(*(x for x in (out.logprobs, out.entropy) if x is not None))
        return out.logprobs.new_zeros(()), out.logprobs, out.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_detached: Tensor | None) -> tuple[Any, ...]:
        return (*rounded(ctx.saved_tensors, ctx.dtypes, grad), None, None)
