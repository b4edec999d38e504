"""Log-probabilities of a linear head, chunk after chunk, and their gradients, chunk after chunk.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gspo_rs.logprobs.chunk import Scaling, chunk_rows, default_chunk_size, live_runs
from gspo_rs.logprobs.gradients import Gradients, rounded
from gspo_rs.logprobs.head import Head
from gspo_rs.logprobs.rows import Rows

__all__ = ["ChunkedLogprobs", "Plan", "gradients_of", "rows_of"]

Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor]
"""Hidden states (n, D), weight (V, D), bias (V,), and targets (n,)."""


@dataclass(frozen=True)
class Plan:
    """What is asked of the head, and how many tokens are taken at once."""

    scaling: Scaling
    chunk_size: int
    dtype: torch.dtype
    entropy: bool
    keep: bool
    """Whether the softmax of the only chunk is kept for the gradients."""

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        weight: Tensor,
        scaling: Scaling,
        *,
        chunk_size: int | None,
        dtype: torch.dtype,
        entropy: bool,
        differentiable: bool,
    ) -> Plan:
        """Plan for `dtype` in the products, and by default for as many tokens as have room."""
        n = hidden.shape[0]
        if chunk_size is None:
            # All in one chunk, where a GPU has room for it, are not computed again backward.
            longest, words = n if differentiable else 0, weight.shape[0]
            chunk_size = default_chunk_size(words, hidden.device, dtype=dtype, longest=longest)
        chunk_size = min(chunk_size, max(n, 1))
        return cls(scaling, chunk_size, dtype, entropy, differentiable and n <= chunk_size)


def rows_of(given: Inputs, plan: Plan) -> Rows:
    """Compute log-probabilities and entropies of all tokens; with residuals if they are kept."""
    hidden, weight, bias, targets = given
    head = Head.of(weight, bias, plan.scaling, plan.chunk_size, residual=plan.keep)
    out = Rows.like(head.logits, len(hidden), entropy=plan.entropy)
    kept = out
    for rows in chunk_rows(len(hidden), plan.chunk_size):
        kept = head.rows(hidden[rows], targets[rows], out.part(rows), residual=plan.keep)
    return replace(kept, logprobs=out.logprobs, entropy=out.entropy) if plan.keep else out


def gradients_of(
    given: Inputs, whole: Rows, grad: Tensor, plan: Plan, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of hidden, weight and bias that are needed, in float32 at least.

    `grad`, (n,), is that of the log-probabilities; what was not kept is computed again.
    """
    hidden, weight, bias, targets = given
    again = whole.residual is None
    size = plan.chunk_size if again else 0
    head = Head.of(weight, bias, plan.scaling, size, residual=again)
    gradients = Gradients.zeros((hidden, weight, bias), needed, own=head.narrow)
    # One outside the vocabulary has NaN for a gradient; its place would end the process.
    places = targets.clamp(0, len(weight) - 1)
    for run in live_runs(grad):
        for part in chunk_rows(run.stop - run.start, plan.chunk_size):
            rows = slice(run.start + part.start, run.start + part.stop)
            found = whole.part(rows)
            if again:
                wanted = hidden[rows], targets[rows], Rows.like(head.logits, len(grad[rows]))
                found = head.rows(*wanted, residual=True, near=whole.logprobs[rows])
            gradients.add(head, (hidden, places), rows, found, grad[rows])
    gradients.finish(head, (hidden, places))
    return gradients.sums


class ChunkedLogprobs(torch.autograd.Function):
    """The head, log-softmax and gather of one chunk of tokens at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        plan: Plan,
    ) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities, and entropies if the plan asks for them."""
        ctx.dtypes = tuple(None if x is None else x.dtype for x in (hidden, weight, bias))
        hidden, weight = hidden.to(plan.dtype).contiguous(), weight.to(plan.dtype)
        found = rows_of((hidden, weight, bias, targets), plan)
        residual = (found.residual, found.factors, found.own) if plan.keep else (None, None, None)
        ctx.save_for_backward(hidden, weight, bias, targets, found.logprobs, *residual)
        ctx.plan = plan
        if found.entropy is not None:
            ctx.mark_non_differentiable(found.entropy)
        return found.logprobs, found.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _grad_entropy: Tensor | None) -> tuple[Any, ...]:
        """Return the gradients that are needed, rounded to the dtypes of what was given."""
        hidden, weight, bias, targets, logprobs, *residual = ctx.saved_tensors
        given, whole = (hidden, weight, bias, targets), Rows(logprobs, None, *residual)
        sums = gradients_of(given, whole, grad, ctx.plan, ctx.needs_input_grad[:3])
        return (*rounded(sums, ctx.dtypes), None, None)
