"""Log-probabilities of given tokens under a linear head, without the matrix of all logits.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["default_chunk_size", "linear_logprobs"]

CHUNK_ELEMENTS = 2**24
"""Logits held at once by default: 64 MiB in float32."""
CHUNK_ROWS = 512
"""Fewest tokens of a default chunk, so that a large head is not read for a handful of them."""


def default_chunk_size(vocabulary: int) -> int:
    """Return how many tokens are taken at once against a vocabulary of this size.

    Examples
    --------
    >>> default_chunk_size(32_000), default_chunk_size(512)
    (524, 32768)
    """
    return max(CHUNK_ROWS, CHUNK_ELEMENTS // max(vocabulary, 1))


@overload
def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    chunk_size: int | None = ...,
    return_entropy: Literal[False] = ...,
) -> Tensor: ...
@overload
def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    chunk_size: int | None = ...,
    return_entropy: Literal[True],
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = ...,
    temperature: float = ...,
    chunk_size: int | None = ...,
    return_entropy: bool,
) -> Tensor | tuple[Tensor, Tensor]: ...
def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk_size: int | None = None,
    return_entropy: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the log-probability of each target under a linear head, chunk of tokens by chunk.

    Parameters
    ----------
    hidden : Tensor, shape (n, D)
        Input of the head for each token; any float dtype.
    weight : Tensor, shape (V, D)
        The head, in the dtype of `hidden` (both are cast under autocast).
    targets : Tensor of int64, shape (n,)
        The token whose log-probability is asked, from 0 to V - 1.
    bias : Tensor, shape (V,), optional
        Added to the logits.
    temperature : float
        Positive; the logits are divided by it before the softmax.
    chunk_size : int, optional
        Tokens taken at once; it changes memory and speed, not the result. By default as many as
        make 64 MiB of float32 logits, and 512 at least.
    return_entropy : bool
        Whether to return the entropy of each token's distribution as well.

    Returns
    -------
    logprobs : Tensor, shape (n,)
        In nats, float32 (float64 for float64 input), with gradients for `hidden`, `weight`, `bias`.
    entropy : Tensor, shape (n,), only with `return_entropy`
        In nats, same dtype, detached.

    Raises
    ------
    ValueError
        If shapes do not fit, or `temperature` or `chunk_size` is not positive.
    TypeError
        If `hidden` and `weight` differ in dtype.

    Notes
    -----
    The backward pass computes each chunk's logits again, unless one chunk holds all tokens; then
    they are kept. O(chunk_size V) memory beyond the gradients, 8 n V D multiply-adds forward and
    backward where the plain expression has 6. Differentiable once.

    Examples
    --------
    >>> hidden, weight = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    >>> linear_logprobs(hidden, weight, torch.tensor([1, 0]))
    tensor([-1.0986, -0.8620])
    """
    _check(hidden, weight, targets, bias)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it should be positive")
    if chunk_size is None:
        chunk_size = default_chunk_size(weight.shape[0])
    elif chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; it should be at least 1")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if hidden.dtype != weight.dtype:
        raise TypeError(f"hidden is {hidden.dtype} and weight {weight.dtype}; cast one of them")
    logprobs, entropy = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, (float(temperature), chunk_size, return_entropy)
    )
    return (logprobs, entropy) if return_entropy else logprobs


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    fits = hidden.dim() == 2 and weight.dim() == 2 and hidden.shape[1] == weight.shape[1]
    if not fits or targets.shape != hidden.shape[:1]:
        raise ValueError(
            "expected hidden (n, D), weight (V, D) and targets (n,), not "
            f"{tuple(hidden.shape)}, {tuple(weight.shape)} and {tuple(targets.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")


class _LinearLogprobs(torch.autograd.Function):
    """The head, log-softmax and gather of one chunk of tokens at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        options: tuple[float, int, bool],
    ) -> tuple[Tensor, Tensor | None]:
        temperature, chunk_size, with_entropy = options
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        n = hidden.shape[0]
        logprobs = hidden.new_empty(n, dtype=dtype)
        entropy = hidden.new_empty(n, dtype=dtype) if with_entropy else None
        kept = None
        for start in range(0, n, chunk_size):
            rows = slice(start, start + chunk_size)
            logits = _logits(hidden[rows], weight, bias, temperature)  # (chunk, V)
            every = logits.log_softmax(dim=1)
            logprobs[rows] = every.gather(1, targets[rows, None])[:, 0]
            if entropy is not None:
                entropy[rows] = torch.special.entr(every.exp()).sum(dim=1)
            kept = logits if n <= chunk_size else None
            del logits, every  # so that the next chunk does not stand beside this one
        ctx.save_for_backward(hidden, weight, bias, targets, kept)
        ctx.temperature, ctx.chunk_size = temperature, chunk_size
        if entropy is not None:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _grad_entropy: Tensor | None) -> tuple[Any, ...]:
        hidden, weight, bias, targets, kept = ctx.saved_tensors
        into_hidden, into_weight, into_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if into_hidden else None
        # Chunks add up in float32: in bfloat16 the later ones would be rounded away.
        grad_weight = torch.zeros_like(weight, dtype=grad.dtype) if into_weight else None
        grad_bias = torch.zeros_like(bias, dtype=grad.dtype) if into_bias else None
        for start in range(0, hidden.shape[0], ctx.chunk_size):
            rows = slice(start, start + ctx.chunk_size)
            logits = kept
            if logits is None:
                logits = _logits(hidden[rows], weight, bias, ctx.temperature)
            residual = logits.softmax(dim=1)
            del logits
            residual[torch.arange(residual.shape[0], device=grad.device), targets[rows]] -= 1
            # Scaling the D columns of hidden is cheaper than scaling the V columns of logits.
            scale = grad[rows, None] / -ctx.temperature
            if grad_hidden is not None:
                grad_hidden[rows] = _product(residual, weight, hidden.dtype) * scale
            if grad_weight is not None:
                grad_weight += _product(residual.T, hidden[rows] * scale, hidden.dtype)
            if grad_bias is not None:
                grad_bias += _product(residual.T, scale, grad.dtype)[:, 0]
            del residual
        cast = [
            None if x is None else x.to(like.dtype)
            for x, like in ((grad_hidden, hidden), (grad_weight, weight), (grad_bias, bias))
        ]
        return (*cast, None, None)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return the (chunk, V) logits in float32 at least, fresh memory that may be written to."""
    logits = _product(hidden, weight.T, hidden.dtype)
    if bias is not None:
        logits += bias
    if temperature != 1.0:
        logits /= temperature
    return logits


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """Multiply matrices of a model in `dtype` into float32 at least, rounding no sum to `dtype`."""
    with torch.autocast(a.device.type, enabled=False):
        if dtype == torch.float64:
            return a @ b
        if dtype == torch.float32 or a.device.type != "cuda":
            return a.float() @ b.float()
        return torch.mm(a.to(dtype), b.to(dtype), out_dtype=torch.float32)
