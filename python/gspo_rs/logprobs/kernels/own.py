"""What the targets' own entries add to both gradients, rounded nowhere.

Letters: ``c`` tokens of a block, ``n`` of all blocks, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gspo_rs.logprobs.kernels.checks import check
from gspo_rs.logprobs.rows import Rows

__all__ = ["add_by_word", "scale_rows"]

COLUMNS = 2048
"""Of a row that a program of the first kernel takes at once, at most."""
TILE = 8, 256
"""Rows and columns that a program of the second takes at once, at most."""


@triton.jit(  # type: ignore[untyped-decorator]
    # Parts of vectors, which begin anywhere: it would be compiled for each way in which they do.
    do_not_specialize_on_alignment=["targets_at", "slopes_at", "factors_at", "own_at", "sums_at"]
)
def _scale_kernel(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, targets_at, slopes_at, factors_at, own_at, of_hidden_at, scaled_at,
    sums_at, columns, hidden_stride, word_stride, column_stride, of_hidden_stride, scaled_stride,
    backward: tl.constexpr, head: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Scale the rows of a token, and add its own term to that of the hidden states."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < columns
    slope = tl.load(slopes_at + row)
    scale, own = slope * tl.load(factors_at + row), slope * tl.load(own_at + row)
    if backward:
        word = weight_at + tl.load(targets_at + row) * word_stride
        pull = tl.load(word + at * column_stride, mask=inside, other=0.0).to(scale.dtype)
        place = of_hidden_at + row * of_hidden_stride + at
        found = tl.load(place, mask=inside, other=0.0) * scale + own * pull
        tl.store(place, found, mask=inside)
    if head:
        hidden = tl.load(hidden_at + row * hidden_stride + at, mask=inside, other=0.0)
        found = (hidden.to(scale.dtype) * scale).to(scaled_at.dtype.element_ty)
        tl.store(scaled_at + row * scaled_stride + at, found, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(sums_at + row, own)


def scale_rows(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    found: Rows,
    *,
    slopes: Tensor,
    of_hidden: Tensor | None,
    scaled: Tensor | None,
    own: Tensor,
) -> None:
    """Take all that is elementwise between the products of a block, in one launch.

    Parameters
    ----------
    hidden : Tensor, shape (c, D)
    weight : Tensor, shape (V, D)
        Of the same dtype, with any strides.
    targets : Tensor of int64, shape (c,)
        None outside the vocabulary.
    found : Rows
        Of these tokens, with `factors` and `own`.
    slopes : Tensor, shape (c,)
        What each log-probability counts in the loss.
    of_hidden : Tensor of float32, shape (c, D), or None
        The product of the residual and the head: scaled in place, the own terms added.
    scaled : Tensor, shape (c, D), or None
        Receives the hidden states, scaled.
    own : Tensor of float32, shape (c,)
        Receives the slopes times the own entries.

    Raises
    ------
    ValueError, TypeError
        If memory lies otherwise than the kernel reads it.
    """
    assert found.factors is not None
    assert found.own is not None
    (tokens, columns), number = hidden.shape, slopes.dtype
    check("hidden", hidden, hidden, (tokens, columns), weight.dtype)
    check("targets", targets, hidden, (tokens,), torch.int64)
    per_token = {"slopes": slopes, "factors": found.factors, "found.own": found.own, "own": own}
    for name, given in per_token.items():
        check(name, given, hidden, (tokens,), number)
    if weight.device != hidden.device:
        raise ValueError(f"weight is on {weight.device} and the rest on {hidden.device}")
    if weight.dim() != 2 or weight.shape[1] != columns:
        raise ValueError(f"weight has shape {tuple(weight.shape)}; expected (V, {columns})")
    if of_hidden is not None:
        check("of_hidden", of_hidden, hidden, (tokens, columns), number)
    if scaled is not None:
        check("scaled", scaled, hidden, (tokens, columns), scaled.dtype)
    block = min(COLUMNS, triton.next_power_of_2(columns))
    # Triton launches on the current GPU, wherever the tensors are.
    with torch.cuda.device_of(hidden):  # type: ignore[no-untyped-call]
        _scale_kernel[(tokens, triton.cdiv(columns, block))](
            hidden, weight, targets, slopes, found.factors, found.own,
            slopes if of_hidden is None else of_hidden,
            slopes if scaled is None else scaled,
            own, columns, hidden.stride(0), *weight.stride(),
            0 if of_hidden is None else of_hidden.stride(0),
            0 if scaled is None else scaled.stride(0),
            backward=of_hidden is not None, head=scaled is not None, block=block,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _word_kernel(  # type: ignore[no-untyped-def]
    total_at, hidden_at, words_at, order_at, own_at, tokens, columns, total_stride, hidden_stride,
    rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sum the terms of one word, which follow one another in sorted order, if this is its first."""
    first = tl.program_id(0).to(tl.int64)
    word = tl.load(words_at + first)
    if (first == 0) | (tl.load(words_at + tl.maximum(first - 1, 0)) != word):
        at = tl.program_id(1) * block + tl.arange(0, block)
        inside = at < columns
        place = total_at + word * total_stride + at
        total = tl.load(place, mask=inside, other=0.0)
        more = tl.full((), True, tl.int1)
        while more:
            which = first + tl.arange(0, rows)
            same = tl.load(words_at + which, mask=which < tokens, other=-1) == word
            token = tl.load(order_at + which, mask=same, other=0)
            own = tl.load(own_at + token, mask=same, other=0.0)
            hidden = tl.load(
                hidden_at + token[:, None] * hidden_stride + at[None, :],
                mask=same[:, None] & inside[None, :],
                other=0.0,
            )
            total += tl.sum(own[:, None] * hidden.to(own.dtype), axis=0)
            first += rows
            more = tl.min(same.to(tl.int32), axis=0) > 0
        tl.store(place, total, mask=inside)


def add_by_word(total: Tensor, hidden: Tensor, targets: Tensor, own: Tensor) -> None:
    """Add to the row of each target its token's hidden state times its own term.

    The terms of a word are sorted and summed up by one program after the other in their order, so
    that every run has the same sums.

    Parameters
    ----------
    total : Tensor of float32, shape (V, D)
    hidden : Tensor, shape (n, D)
    targets : Tensor of int64, shape (n,)
        None outside the vocabulary.
    own : Tensor of float32, shape (n,)

    Raises
    ------
    ValueError, TypeError
        If memory lies otherwise than the kernel reads it.
    """
    tokens, columns = hidden.shape
    check("total", total, hidden, (len(total), columns), own.dtype)
    check("hidden", hidden, hidden, (tokens, columns), hidden.dtype)
    check("targets", targets, hidden, (tokens,), torch.int64)
    check("own", own, hidden, (tokens,), own.dtype)
    if tokens == 0:
        return
    words, order = targets.sort(stable=True)
    rows, block = TILE[0], min(TILE[1], triton.next_power_of_2(columns))
    with torch.cuda.device_of(hidden):  # type: ignore[no-untyped-call]
        _word_kernel[(tokens, triton.cdiv(columns, block))](
            total, hidden, words, order, own, tokens, columns, total.stride(0), hidden.stride(0),
            rows=rows, block=block,
        )  # fmt: skip
