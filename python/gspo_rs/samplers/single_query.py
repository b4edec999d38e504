"""Attention of one new token a row, on a CPU: products of whole batches over keys laid out for it.

Letters: ``B`` rows, ``H`` heads of the keys, ``G`` heads of the queries for each, ``D`` their
width, ``n`` tokens held.
"""

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gspo_rs.samplers.attention import Attention, attending, plain, register

__all__ = ["attend", "single_queries"]

_OURS = "gspo_rs_single_query"


@contextlib.contextmanager
def single_queries(model: Any) -> Iterator[bool]:
    """Let a model attend by `attend` where it can; yield whether it does.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Which reads in this context.

    Notes
    -----
    torch's attention takes each head of each row by itself, which for one query is little work.
    Products of a batch take less time where the keys lie one number of all tokens after the other:
    `gspo_rs.samplers.growing_cache` lays them out so. In bfloat16 the sums would be rounded, which
    torch's attention does not; and a GPU has kernels of its own.
    """
    try:
        with attending(model, _OURS) as ours:
            yield ours
    finally:
        _added.cache_clear()


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
    """Attend with one query a row and head, or as it is done `otherwise`.

    Parameters
    ----------
    module : torch.nn.Module
        Of the model.
    query : Tensor, shape (B, H * G, 1, D)
    key, value : Tensor, shape (B, H, n, D)
    attention_mask : Tensor of bool or float, shape (B, 1, 1, n), optional
        True where a query may look, or what is added.
    otherwise : callable
        Attention of transformers: what all but single queries over keys of that layout get.
    **options
        Of the attention functions of transformers.

    Returns
    -------
    output : Tensor, shape (B, 1, H * G, D)
    weights : None
    """
    groups = query.shape[1] // key.shape[1]
    laid_out = query.shape[2] == 1 and key.stride(2) == 1 < key.stride(3)
    one_mask = attention_mask is None or attention_mask.shape[1] == 1
    if not (laid_out and one_mask and plain(options)):
        return otherwise(module, query, key, value, attention_mask, **options)
    rows, heads, _, width = key.shape
    scaling = options.get("scaling")
    scores = torch.baddbmm(  # (B * H, G, n)
        query.new_zeros(1, 1, 1)
        if attention_mask is None
        else _added(attention_mask, (rows, heads), query.dtype),
        query.reshape(rows * heads, groups, width),
        key.transpose(2, 3).flatten(0, 1),
        alpha=width**-0.5 if scaling is None else scaling,
    )
    output = torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1))  # (B * H, G, D)
    return output.view(rows, 1, -1, value.shape[3]), None


@lru_cache(maxsize=2)
def _added(mask: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return what a mask (B or 1, 1, 1, n) adds to the scores of (B, H) heads, (B * H, 1, n).

    All layers of a pass get one mask, or one of two: it is made once.
    """
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, -torch.inf)
    return mask.to(dtype).expand(*shape, -1, -1).flatten(0, 1)


register(_OURS, attend)
