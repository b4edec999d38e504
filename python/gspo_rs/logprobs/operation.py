"""Log-probabilities of a linear head under `torch.compile`: one operation of the graph.

How many tokens make a chunk depends on the memory that is free, and which of them cost a product on
values, so that a graph cannot hold the steps. Nothing is kept but what was given: the backward
operation computes logits again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from gspo_rs.logprobs.chunk import Scaling
from gspo_rs.logprobs.chunked import Plan, gradients_of, rows_of
from gspo_rs.logprobs.gradients import rounded
from gspo_rs.logprobs.rows import Rows

__all__ = ["logprobs_operation"]

Results = tuple[Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor]


@library.custom_op("gspo_rs::linear_logprobs", mutates_args=())
def logprobs_operation(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    temperature: float,
    softcap: float | None,
    chunk_size: int | None,
    dtype: torch.dtype,
    entropy: bool,
) -> Results:
    """Compute log-probabilities, (n,), and entropies, (n,), or (0,) where they are not asked."""
    scaling = Scaling(temperature, softcap)
    plan = _plan(hidden, weight, scaling, chunk_size, dtype=dtype, entropy=entropy)
    found = rows_of((hidden.to(dtype).contiguous(), weight.to(dtype), bias, targets), plan)
    nothing = found.logprobs.new_empty(0)
    return found.logprobs, nothing if found.entropy is None else found.entropy


@logprobs_operation.register_fake
def _(hidden: Tensor, *_inputs: Any, dtype: torch.dtype, entropy: bool, **_options: Any) -> Results:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    n = hidden.shape[0]
    return hidden.new_empty(n, dtype=exact), hidden.new_empty(n if entropy else 0, dtype=exact)


@library.custom_op("gspo_rs::linear_logprobs_backward", mutates_args=())
def _gradients_operation(
    inputs: list[Tensor],
    bias: Tensor | None,
    *,
    needed: list[bool],
    temperature: float,
    softcap: float | None,
    chunk_size: int | None,
    dtype: torch.dtype,
) -> Gradients:
    hidden, weight, targets, logprobs, grad = inputs
    dtypes = tuple(None if x is None else x.dtype for x in (hidden, weight, bias))
    scaling = Scaling(temperature, softcap)
    plan = _plan(hidden, weight, scaling, chunk_size, dtype=dtype, entropy=False)
    given = hidden.to(dtype).contiguous(), weight.to(dtype), bias, targets
    sums = gradients_of(given, Rows(logprobs, None), grad.contiguous(), plan, tuple(needed))
    found = (hidden.new_empty(0) if x is None else x for x in rounded(sums, dtypes))
    of_hidden, of_weight, of_bias = found
    return of_hidden, of_weight, of_bias


@_gradients_operation.register_fake
def _(inputs: list[Tensor], bias: Tensor | None, *, needed: list[bool], **_: Any) -> Gradients:
    of_hidden, of_weight, of_bias = (
        torch.empty_like(x, memory_format=torch.contiguous_format)
        if x is not None and need
        else inputs[0].new_empty(0)
        for x, need in zip((*inputs[:2], bias), needed, strict=True)
    )
    return of_hidden, of_weight, of_bias


def _plan(hidden: Tensor, weight: Tensor, scaling: Scaling, size: int | None, **asked: Any) -> Plan:
    return Plan.of(hidden, weight, scaling, chunk_size=size, differentiable=False, **asked)


def _keep(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    hidden, weight, bias, targets = inputs
    ctx.save_for_backward(hidden, weight, bias, targets, output[0])
    ctx.options = {name: x for name, x in keyword_only_inputs.items() if name != "entropy"}
    ctx.mark_non_differentiable(output[1])


def _pull(ctx: Any, grad: Tensor, _grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
    hidden, weight, bias, *rest = ctx.saved_tensors
    needed = [bool(need) for need in ctx.needs_input_grad[:3]]
    found = _gradients_operation([hidden, weight, *rest, grad], bias, needed=needed, **ctx.options)
    return (*(x if need else None for x, need in zip(found, needed, strict=True)), None)


logprobs_operation.register_autograd(_pull, setup_context=_keep)
