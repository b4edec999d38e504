"""Exponentials of logits out of the product itself, which are never written.

Letters: ``c`` tokens, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gspo_rs.logprobs.kernels.checks import check, check_tokens, room_of
from gspo_rs.logprobs.rows import Rows

__all__ = ["exponential_rows", "tile_of"]

TILE = 256, 128, 64
"""Tokens and words of a program, and how many columns it multiplies at once."""
GROUP = 8
"""Tiles of tokens that follow one another before the next of words: their operands stay near."""
WARPS, STAGES = 8, 3
AGAIN = 32, 128
"""Words and columns at once of a row whose normaliser was not known after all."""
REACH = 60.0
"""How far from 0 the logarithm of a row's sum may be, in nats."""


@triton.jit(do_not_specialize=["temperature"])  # type: ignore[untyped-decorator]
def _target_kernel(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, targets_at, near_at, chosen_at, tops_at, words, columns, hidden_stride,
    word_stride, temperature, block: tl.constexpr,
):  # fmt: skip
    """Take the logit of each target in float32, and the normaliser that it tells."""
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets_at + row)
    inside = (target >= 0) & (target < words)
    sums = tl.full((block,), 0.0, tl.float32)
    for first in range(0, columns, block):
        at = first + tl.arange(0, block)
        hidden = tl.load(hidden_at + row * hidden_stride + at, mask=at < columns, other=0.0)
        word = weight_at + target * word_stride
        weight = tl.load(word + at, mask=(at < columns) & inside, other=0.0)
        sums += hidden.to(tl.float32) * weight.to(tl.float32)
    chosen = tl.sum(sums, axis=0) / temperature
    tl.store(chosen_at + row, chosen)
    tl.store(tops_at + row, chosen - tl.load(near_at + row))


@triton.jit(do_not_specialize=["temperature"])  # type: ignore[untyped-decorator]
def _product_kernel(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, targets_at, tops_at, found_at, rests_at, means_at, tokens, words, space,
    columns, hidden_stride, word_stride, found_stride, temperature, entropy: tl.constexpr,
    rows: tl.constexpr, block: tl.constexpr, depth: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    """Write ``exp(z - top)`` of a tile, 0 at the targets, and the sums of its rows."""
    down, across = tl.cdiv(tokens, rows), tl.cdiv(words, block)
    place = tl.program_id(0)
    first = place // (group * across) * group
    high = tl.minimum(down - first, group)
    y = first + place % (group * across) % high
    x = place % (group * across) // high
    row, word = y * rows + tl.arange(0, rows), x * block + tl.arange(0, block)
    wide_row, wide_word = row.to(tl.int64), word.to(tl.int64)
    at = tl.arange(0, depth)
    hidden_at += wide_row[:, None] * hidden_stride + at[None, :]
    weight_at += wide_word[None, :] * word_stride + at[:, None]
    logits = tl.full((rows, block), 0.0, tl.float32)
    for start in range(0, columns, depth):
        left = columns - start
        hidden = tl.load(hidden_at, mask=(row[:, None] < tokens) & (at[None, :] < left), other=0.0)
        weight = tl.load(weight_at, mask=(word[None, :] < words) & (at[:, None] < left), other=0.0)
        logits = tl.dot(hidden, weight, logits)
        hidden_at += depth
        weight_at += depth
    top = tl.load(tops_at + row, mask=row < tokens, other=0.0)
    target = tl.load(targets_at + row, mask=row < tokens, other=-1)
    logits = logits / temperature - top[:, None]
    counted = (word[None, :] < words) & (word[None, :] != target[:, None])
    found = tl.where(counted, tl.exp(logits), 0.0)
    sums = x.to(tl.int64) * tokens + wide_row
    tl.store(rests_at + sums, tl.sum(found, axis=1), mask=row < tokens)
    if entropy:
        moved = tl.where(found > 0, found * logits, 0.0)
        tl.store(means_at + sums, tl.sum(moved, axis=1), mask=row < tokens)
    tl.store(
        found_at + wide_row[:, None] * found_stride + wide_word[None, :],
        found.to(found_at.dtype.element_ty),
        # To the end of the room, whose size a vector divides where that of the vocabulary is odd.
        mask=(row[:, None] < tokens) & (word[None, :] < space),
    )


@triton.jit  # type: ignore[untyped-decorator]
def _logits(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, word, words, columns, word_stride, temperature,
    depth: tl.constexpr,
):  # fmt: skip
    """Return the logits of some words for one token, -inf past the end."""
    sums = tl.full(word.shape, 0.0, tl.float32)
    place = weight_at + word.to(tl.int64)[:, None] * word_stride
    for start in range(0, columns, depth):
        at = start + tl.arange(0, depth)
        hidden = tl.load(hidden_at + at, mask=at < columns, other=0.0).to(tl.float32)
        weight = tl.load(
            place + at[None, :],
            mask=(word < words)[:, None] & (at < columns)[None, :],
            other=0.0,
        )
        sums += tl.sum(hidden[None, :] * weight.to(tl.float32), axis=1)
    return tl.where(word < words, sums / temperature, float("-inf"))


@triton.jit  # type: ignore[untyped-decorator]
def _again(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, found_at, target, words, columns, word_stride, temperature,
    again: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Write a row relative to its largest logit, and return that and its sums."""
    tops = tl.full((again,), float("-inf"), tl.float32)
    for first in range(0, words, again):
        word = first + tl.arange(0, again)
        tops = tl.maximum(
            tops,
            _logits(hidden_at, weight_at, word, words, columns, word_stride, temperature, depth),
        )
    top = tl.maximum(tl.max(tops, axis=0), -3e38)
    sums, moved = tl.full((again,), 0.0, tl.float32), tl.full((again,), 0.0, tl.float32)
    for first in range(0, words, again):
        word = first + tl.arange(0, again)
        z = _logits(hidden_at, weight_at, word, words, columns, word_stride, temperature, depth)
        p = tl.where(word == target, 0.0, tl.exp(z - top))
        sums += p
        moved += tl.where(p > 0, p * (z - top), 0.0)
        tl.store(found_at + word, p.to(found_at.dtype.element_ty), mask=word < words)
    return top, tl.sum(sums, axis=0), tl.sum(moved, axis=0)


@triton.jit(do_not_specialize=["temperature"])  # type: ignore[untyped-decorator]
def _finish_kernel(  # type: ignore[no-untyped-def]
    hidden_at, weight_at, targets_at, chosen_at, tops_at, rests_at, means_at, found_at, logprobs_at,
    entropies_at, factors_at, own_at, tokens, words, columns, parts, hidden_stride, word_stride,
    found_stride, temperature, least, most, entropy: tl.constexpr, block: tl.constexpr,
    again: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Add up the sums of a row, and take it again where its normaliser was not near."""
    row = tl.program_id(0).to(tl.int64)
    target, chosen = tl.load(targets_at + row), tl.load(chosen_at + row)
    top = tl.load(tops_at + row)
    sums, moved = tl.full((block,), 0.0, tl.float32), tl.full((block,), 0.0, tl.float32)
    for first in range(0, parts, block):
        part = first + tl.arange(0, block)
        place = part.to(tl.int64) * tokens + row
        sums += tl.load(rests_at + place, mask=part < parts, other=0.0)
        if entropy:
            moved += tl.load(means_at + place, mask=part < parts, other=0.0)
    rest, mean = tl.sum(sums, axis=0), tl.sum(moved, axis=0)
    total = rest + tl.exp(chosen - top)
    hidden_at += row * hidden_stride
    if tl.where((total > least) & (total < most), 0, 1):  # NaN is neither
        top, rest, mean = _again(
            hidden_at, weight_at, found_at + row * found_stride, target, words, columns,
            word_stride, temperature, again, depth,
        )  # fmt: skip
    of_target = tl.exp(chosen - top)
    total = rest + of_target
    nowhere = (target < 0) | (target >= words)
    logprob = chosen - top - tl.log(total)
    tl.store(logprobs_at + row, tl.where(nowhere, float("nan"), logprob))
    if entropy:
        mean += tl.where(of_target > 0, of_target * (chosen - top), 0.0)
        tl.store(entropies_at + row, tl.log(total) - mean / total)
    tl.store(factors_at + row, -1 / (total * temperature))
    own = rest / total / temperature
    tl.store(own_at + row, tl.where(nowhere, float("nan"), own))


def tile_of(*, entropy: bool) -> tuple[int, int, int]:
    """Return `TILE`, of half the tokens for entropies: logits and exponentials are both held then.

    There are no registers for both of the whole.
    """
    rows, block, depth = TILE
    return rows // 2 if entropy else rows, block, depth


def exponential_rows(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    out: Rows,
    *,
    near: Tensor,
    temperature: float,
) -> None:
    """Fill `out` as `fused_rows` does where a row's normaliser is known, from the head's factors.

    Parameters
    ----------
    hidden : Tensor of bfloat16, shape (c, D)
    weight : Tensor of bfloat16, shape (V, D)
    targets : Tensor of int64, shape (c,)
        Outside the vocabulary the log-probability is NaN.
    out : Rows
        Of these tokens; its residual in bfloat16.
    near : Tensor of float32, shape (c,)
        Log-probabilities of the targets under another policy. A row for which they are off by more
        than 60 nats is multiplied by the head once more, slowly.
    temperature : float
        Divides the logits.

    Raises
    ------
    ValueError, TypeError
        If memory lies otherwise than the kernels read it.
    """
    assert out.residual is not None
    (tokens, columns), words, residual = hidden.shape, len(weight), out.residual
    _check_all(hidden, weight, targets, out, near)
    rows, block, depth = tile_of(entropy=out.entropy is not None)
    parts, has_entropy = triton.cdiv(words, block), out.entropy is not None
    chosen, tops = near.new_empty(2, tokens)
    rests = near.new_empty(parts, tokens)
    means = torch.empty_like(rests) if has_entropy else rests
    strides = hidden.stride(0), weight.stride(0)
    with torch.cuda.device_of(hidden):  # type: ignore[no-untyped-call]
        _target_kernel[(tokens,)](
            hidden, weight, targets, near, chosen, tops, words, columns, *strides, temperature,
            block=min(1024, triton.next_power_of_2(columns)),
        )  # fmt: skip
        _product_kernel[(triton.cdiv(tokens, rows) * parts,)](
            hidden, weight, targets, tops, residual, rests, means, tokens, words,
            room_of(residual), columns, *strides, residual.stride(0), temperature,
            entropy=has_entropy, rows=rows, block=block, depth=depth, group=GROUP,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
        _finish_kernel[(tokens,)](
            hidden, weight, targets, chosen, tops, rests, means, residual, out.logprobs,
            near if out.entropy is None else out.entropy, out.factors, out.own, tokens, words,
            columns, parts, *strides, residual.stride(0), temperature, math.exp(-REACH),
            math.exp(REACH), entropy=has_entropy, block=1024, again=AGAIN[0], depth=AGAIN[1],
        )  # fmt: skip


def _check_all(hidden: Tensor, weight: Tensor, targets: Tensor, out: Rows, near: Tensor) -> None:
    """Refuse what the kernels would read or write wrongly."""
    (tokens, columns), words = hidden.shape, len(weight)
    check("hidden", hidden, hidden, (tokens, columns), torch.bfloat16)
    check("weight", weight, hidden, (words, columns), torch.bfloat16)
    check("targets", targets, hidden, (tokens,), torch.int64)
    assert out.residual is not None
    check("residual", out.residual, hidden, (tokens, words), torch.bfloat16)
    assert out.own is not None
    check_tokens(out, near, hidden, torch.float32)
