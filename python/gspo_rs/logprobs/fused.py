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

from gspo_rs.logprobs.chunk import Gradients, Head, Scaling, chunk_rows
from gspo_rs.logprobs.linear import checked

__all__ = ["one_pass", "one_pass_with_entropy"]

Loss = Callable[[Tensor, slice, slice], Tensor]
"""The loss of some sequences, given the log-probabilities of their tokens, which tokens of the
batch those are, and which sequences."""


def one_pass(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    lengths: list[int] | None,
    bias: Tensor | None = None,
    scaling: Scaling,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute log-probabilities under a linear head and the gradients of their loss together.

    Parameters
    ----------
    hidden, weight, targets, bias, chunk_size
        As in `linear_logprobs`.
    loss : callable
        Called as ``loss(logprobs, tokens, rows)`` with the log-probabilities, differentiable, of
        the tokens ``tokens`` of the batch, which are those of the sequences ``rows``; returns their
        share of the loss. It is a sum over sequences, and has the same slope for each token of a
        sequence.
    lengths : list of int, or None
        Tokens of each sequence. None if the slopes of `loss` do not depend on the
        log-probabilities.
    scaling : Scaling
        Of the logits.

    Returns
    -------
    gradient : Tensor, scalar
        0; added to the value of the loss, it gives it the gradients.
    logprobs : Tensor, shape (n,)
        Detached, in float32 at least.
    """
    plan = _Plan(loss, lengths, scaling, entropy=False)
    return _walked((hidden, weight, targets, bias), plan, chunk_size)[:2]


def one_pass_with_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    lengths: list[int] | None,
    bias: Tensor | None = None,
    scaling: Scaling,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take what `one_pass` does, and the entropy of each token's distribution with it.

    Parameters
    ----------
    hidden, weight, targets, loss, lengths, bias, scaling, chunk_size
        As in `one_pass`.

    Returns
    -------
    gradient, logprobs
        As `one_pass` returns them.
    entropy : Tensor, shape (n,)
        Detached, in nats.
    """
    plan = _Plan(loss, lengths, scaling, entropy=True)
    given = hidden, weight, targets, bias
    gradient, logprobs, entropy = _walked(given, plan, chunk_size)
    assert entropy is not None
    return gradient, logprobs, entropy


def _walked(
    given: tuple[Tensor, Tensor, Tensor, Tensor | None], plan: _Plan, chunk_size: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    hidden, weight, size = checked(*given, chunk_size=chunk_size)
    plan = replace(plan, chunk_size=size, differentiable=torch.is_grad_enabled())
    _, _, targets, bias = given
    found: tuple[Tensor, Tensor, Tensor | None] = _OnePass.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, plan
    )
    return found


@dataclass(frozen=True)
class _Plan:
    """How the tokens are walked through, and what their log-probabilities are taken for."""

    loss: Loss
    lengths: list[int] | None
    scaling: Scaling
    entropy: bool
    chunk_size: int = 1
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

    def slopes_of(self, logprobs: Tensor) -> Callable[[slice, slice], Tensor]:
        """Give the slope of the loss for each log-probability of a block."""

        def slopes(tokens: slice, rows: slice) -> Tensor:
            leaf = logprobs[tokens].detach().requires_grad_()
            with torch.enable_grad():
                value = self.loss(leaf, tokens, rows)
            return torch.autograd.grad(value, leaf)[0]

        if self.lengths is not None:
            return slopes
        known = slopes(slice(None), slice(None))
        return lambda tokens, _: known[tokens]


class _OnePass(torch.autograd.Function):
    """The head and all gradients, in the forward pass; backward only multiplies them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: _Plan
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        inputs, n = (hidden, weight, bias), hidden.shape[0]
        needed = tuple(plan.differentiable and need for need in ctx.needs_input_grad[:3])
        head = Head.of(weight, bias, plan.scaling, plan.chunk_size)
        logprobs = head.logits.new_zeros(n)
        entropy = head.logits.new_empty(n) if plan.entropy else None
        gradients = Gradients.zeros(inputs, needed)
        apart = gradients.apart() if plan.longest > plan.chunk_size else gradients
        slopes = plan.slopes_of(logprobs)
        for tokens, rows in plan.blocks(n):
            chunks = plan.chunks(tokens)
            whole = len(chunks) == 1
            for chunk in chunks:
                logprobs[chunk], entropies, residual = head.rows(
                    hidden[chunk], targets[chunk], residual=any(needed), entropy=plan.entropy
                )
                if entropy is not None and entropies is not None:
                    entropy[chunk] = entropies
                if residual is not None:
                    scale = slopes(tokens, rows) if whole else torch.ones_like(logprobs[chunk])
                    (gradients if whole else apart).add(head, hidden, chunk, residual, scale)
            if any(needed) and not whole:
                gradients.absorb(apart, slopes(tokens, rows)[0], tokens)
        ctx.save_for_backward(*gradients.like(inputs))
        ctx.mark_non_differentiable(*(x for x in (logprobs, entropy) if x is not None))
        return logprobs.new_zeros(()), logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_detached: Tensor | None) -> tuple[Any, ...]:
        found = (None if x is None else x * grad for x in ctx.saved_tensors)
        return (*found, None, None)
