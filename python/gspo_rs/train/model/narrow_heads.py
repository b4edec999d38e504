"""Causal attention of narrow heads on a CPU, by products of whole batches, forward and backward.

Letters: ``B`` rows, ``H`` heads of the keys, ``G`` heads of the queries for each, ``S`` tokens,
``D`` width of a head; ``N`` heads of some rows at once, ``n`` of the queries and ``k`` of the keys.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gspo_rs.samplers.attention import Attention, attending, plain, register

__all__ = ["attend", "causal_attention", "narrow_heads"]

_OURS = "gspo_rs_narrow_heads"
NARROW = 8
"""Widest heads for which products of a batch take less time than torch's attention."""
QUERIES = 128
"""Tokens that ask at once: what comes after the last of them is not computed."""
SCORES = 2**18
"""Scores at once, about: two matrices of them lie in the cache of a core."""


def narrow_heads(model: Any) -> AbstractContextManager[bool]:
    """Let a model attend by `causal_attention` where its heads are narrow; yield whether it may.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        Which reads rows of tokens in this context. Its activations are kept: what is computed again
        for the backward pass would be, outside of it, by torch's attention.

    Notes
    -----
    On a CPU torch's attention calls a product for 32 tokens of one head, which takes longer than a
    narrow product itself. Here one call multiplies all heads of some rows.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return attending(base, _OURS)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    otherwise: Attention,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend by `causal_attention` where heads are narrow, or as it is done `otherwise`.

    Parameters
    ----------
    module : torch.nn.Module
        Of the model.
    query : Tensor, shape (B, H * G, S, D)
    key, value : Tensor, shape (B, H, S, D)
    attention_mask : Tensor, optional
        None where each token sees all before it.
    otherwise : callable
        Attention of transformers: what all else gets.
    **options
        Of the attention functions of transformers.

    Returns
    -------
    output : Tensor, shape (B, S, H * G, D)
    weights : None
    """
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    whole = attention_mask is None and query.shape[2] == key.shape[2] and causal
    narrow = max(query.shape[3], value.shape[3]) <= NARROW
    exact = query.dtype in (torch.float32, torch.float64)
    compiled = torch.compiler.is_compiling()
    if not (whole and narrow and exact and plain(options)) or compiled:
        return otherwise(module, query, key, value, attention_mask, **options)
    scaling = options.get("scaling")
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attend to the token itself and to those before it.

    Parameters
    ----------
    query : Tensor, shape (B, H * G, S, D)
    key, value : Tensor, shape (B, H, S, D)
    scaling : float
        Of the products of queries and keys.

    Returns
    -------
    Tensor, shape (B, H * G, S, D)
        Differentiable once.

    Examples
    --------
    >>> x = torch.arange(6.0).view(1, 1, 3, 2)
    >>> causal_attention(x, x, x, scaling=0.0)[0, 0]
    tensor([[0., 1.],
            [1., 2.],
            [2., 3.]])
    """
    output: Tensor = _Causal.apply(query, key, value, scaling)  # type: ignore[no-untyped-call]
    return output


class _Causal(torch.autograd.Function):
    """Scores are made anew for the backward pass, so that no memory grows with their number."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        q, k, v = _by_heads(query * scaling, key, value)
        out, scratch = q.new_empty(*q.shape[:3], v.shape[2]), _scratch(q)
        for at, some, n, past in _pieces(q):
            asked = q[at, :, some].flatten(1, 2)
            p = _weights(asked, k[at, :past], n, scratch)
            # Products with few rows, not with few columns, take a third of the time.
            found = torch.bmm(v[at, :past].mT, p.mT)  # (N, D, G * n)
            out[at, :, some] = found.view(*found.shape[:2], -1, n).permute(0, 2, 3, 1)
        ctx.save_for_backward(q, k, v, out)
        ctx.scaling, ctx.heads = scaling, key.shape[1]
        return out.view(*query.shape[:3], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out = ctx.saved_tensors
        of_out = grad.reshape(out.shape)
        of_q, of_k, of_v = torch.empty_like(q), torch.zeros_like(k.mT), torch.zeros_like(v.mT)
        kept, scratch, other = (of_out * out).sum(dim=-1, keepdim=True), _scratch(q), _scratch(q)
        for at, some, n, past in _pieces(q):
            asked, given, mean = (x[at, :, some].flatten(1, 2) for x in (q, of_out, kept))
            keys, values = k[at, :past], v[at, :past]
            p = _weights(asked, keys, n, scratch)
            of_v[at, :, :past] += torch.bmm(given.mT, p)
            of_scores = _product(given, values, other).sub_(mean).mul_(p)
            of_k[at, :, :past] += torch.bmm(asked.mT, of_scores)
            found = torch.bmm(keys.mT, of_scores.mT)  # (N, D, G * n)
            of_q[at, :, some] = found.view(*found.shape[:2], -1, n).permute(0, 2, 3, 1)
        rows = len(q) // ctx.heads
        of_keys = (x.view(rows, ctx.heads, *x.shape[1:]).mT for x in (of_k, of_v))
        return of_q.mul_(ctx.scaling).view(rows, -1, *q.shape[2:]), *of_keys, None


def _by_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B * H, G, S, D) queries, and (B * H, S, D) keys and values."""
    rows, heads, tokens, width = key.shape
    q = query.reshape(rows * heads, -1, tokens, width)
    return q, key.reshape(-1, tokens, width), value.reshape(-1, tokens, value.shape[3])


def _pieces(queries: Tensor) -> Iterator[tuple[slice, slice, int, int]]:
    """Cut (B * H, G, S, D) queries; yield heads, tokens, how many, and the keys up to their end."""
    heads, groups, tokens, _ = queries.shape
    for start in range(0, tokens, QUERIES):
        stop = min(start + QUERIES, tokens)
        together = max(SCORES // (groups * (stop - start) * stop), 1)
        for at in range(0, heads, together):
            yield slice(at, at + together), slice(start, stop), stop - start, stop


def _scratch(queries: Tensor) -> Tensor:
    """Return memory for the scores of any piece: fresh memory for each would cost more."""
    _, groups, tokens, _ = queries.shape
    return queries.new_empty(max(SCORES, groups * min(QUERIES, tokens) * tokens))


def _product(queries: Tensor, keys: Tensor, scratch: Tensor) -> Tensor:
    """Return the products of (N, G * n, D) and (N, k, D), (N, G * n, k), in scratch memory."""
    shape = len(queries), queries.shape[1], keys.shape[1]
    return torch.bmm(queries, keys.mT, out=scratch[: math.prod(shape)].view(shape))


def _weights(queries: Tensor, keys: Tensor, n: int, scratch: Tensor) -> Tensor:
    """Return what (N, G * n, D) queries, the last of as many tokens as (N, k, D) keys, look at."""
    scores = _product(queries, keys, scratch)
    hidden = _hidden(n, keys.shape[1], queries.dtype)
    scores.view(len(scores), -1, *hidden.shape).add_(hidden)
    return torch.softmax(scores, dim=-1, out=scores)


@lru_cache(maxsize=8)
def _hidden(n: int, keys: int, dtype: torch.dtype) -> Tensor:
    """Return what hides later keys from the last queries, (n, k)."""
    later = torch.ones(n, keys, dtype=torch.bool).triu(keys - n + 1)
    return torch.zeros(n, keys, dtype=dtype).masked_fill_(later, -torch.inf)


register(_OURS, attend)
