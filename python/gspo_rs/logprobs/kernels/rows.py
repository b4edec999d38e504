"""One launch over a chunk of logits on a GPU, where PyTorch takes several passes over its memory.

Letters: ``c`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

import math
import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from gspo_rs.logprobs.kernels.checks import check, check_tokens, room_of
from gspo_rs.logprobs.rows import Rows

__all__ = ["block_of", "fused_rows"]

BLOCK = 4096
"""Words of the vocabulary that a program holds at once, at most."""
REACH = {torch.bfloat16: 60.0, torch.float16: 2.0}
"""How far from 0 the logarithm of a row's sum may be, in nats, for residuals of this dtype: float16
has no number above e^11 and few digits below e^-10."""
LOWEST = tl.constexpr(-3e38)
"""Below every logit but -inf, from which the difference of two would be NaN."""


@triton.jit
def _double(bits, like):  # type: ignore[no-untyped-def]
    """Return the number that 64 bits are, as `like`: a Python float would come as float32."""
    return bits.to(tl.float64, bitcast=True).to(like)


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    """Return tanh of x >= 0, and its slope, with all digits of each.

    Below 1/2, where ``1 - exp(-2 x)`` would lose them, by Lambert's continued fraction
    ``x / (1 + x^2 / (3 + x^2 / (5 + ...)))``, cut after 15.
    """
    shrunk = tl.exp(-2 * x)
    far = (1 - shrunk) / (1 + shrunk)
    s = tl.where(x < 0.5, x * x, 0.0)
    above = 2027025 + s * (270270 + s * (6930 + s * 36))
    below = 2027025 + s * (945945 + s * (51975 + s * (630 + s)))
    return tl.where(x < 0.5, x * (above / below), far), 4 * shrunk / ((1 + shrunk) * (1 + shrunk))


@triton.jit  # type: ignore[untyped-decorator]
def _read(  # type: ignore[no-untyped-def]
    logits_at, bias_at, at, words, room, softcap, temperature,
    biased: tl.constexpr, capped: tl.constexpr,
):  # fmt: skip
    """Return logits as the softmax takes them, -inf past the end, and the slope of the cap."""
    inside = (at >= 0) & (at < words)
    # To the end of the room, whose size a vector divides where that of the vocabulary is odd.
    z = tl.load(logits_at + at, mask=(at >= 0) & (at < room), other=0.0)
    if biased:
        z += tl.load(bias_at + at, mask=inside, other=0.0)
    slope = tl.full(z.shape, 1.0, z.dtype)
    if capped:
        tanh, slope = _tanh(tl.abs(z / softcap))
        z = softcap * tl.where(z < 0, -tanh, tanh)
    return tl.where(inside, z / temperature, float("-inf")), slope


@triton.jit  # type: ignore[untyped-decorator]
def _sums(  # type: ignore[no-untyped-def]
    logits_at, bias_at, target, chosen, words, room, softcap, temperature,
    biased: tl.constexpr, capped: tl.constexpr, entropy: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Return the largest logit, and the sums of ``p = exp(z - top)`` and of ``p (z - top)``.

    Both without the target's.
    """
    top = tl.maximum(tl.full((), LOWEST, chosen.dtype), chosen)
    rest = tl.full((), 0.0, chosen.dtype)
    mean = rest
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        z = _read(logits_at, bias_at, at, words, room, softcap, temperature, biased, capped)[0]
        higher = tl.maximum(top, tl.max(z, axis=0))
        p, shrink = tl.where(at == target, 0.0, tl.exp(z - higher)), tl.exp(top - higher)
        if entropy:
            moved = tl.sum(tl.where(p > 0, p * (z - higher), 0.0), axis=0)
            mean = tl.where(rest > 0, (mean + rest * (top - higher)) * shrink, 0.0) + moved
        rest, top = rest * shrink + tl.sum(p, axis=0), higher
    return top, rest, mean


@triton.jit  # type: ignore[untyped-decorator]
def _write(  # type: ignore[no-untyped-def]
    logits_at, bias_at, residual_at, target, top, total, words, room, space, softcap, temperature,
    biased: tl.constexpr, capped: tl.constexpr, apart: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write the residual: whole, or times the sum and without the target's own."""
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        z, slope = _read(logits_at, bias_at, at, words, room, softcap, temperature, biased, capped)
        p = tl.exp(z - top)
        if apart:
            p = tl.where(at == target, 0.0, p)
        else:
            p = p / total - tl.where(at == target, 1.0, 0.0)
        found = (p * slope).to(residual_at.dtype.element_ty)
        tl.store(residual_at + at, found, mask=at < space)


@triton.jit  # type: ignore[untyped-decorator]
def _one_read(  # type: ignore[no-untyped-def]
    logits_at, bias_at, residual_at, target, top, words, room, space, softcap, temperature,
    biased: tl.constexpr, capped: tl.constexpr, entropy: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Write the residual and return the sums in one pass, `top` being near enough to the logits."""
    rest = tl.full((), 0.0, top.dtype)
    mean = rest
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        z, slope = _read(logits_at, bias_at, at, words, room, softcap, temperature, biased, capped)
        p = tl.where(at == target, 0.0, tl.exp(z - top))
        if entropy:
            mean += tl.sum(tl.where(p > 0, p * (z - top), 0.0), axis=0)
        rest += tl.sum(p, axis=0)
        found = (p * slope).to(residual_at.dtype.element_ty)
        tl.store(residual_at + at, found, mask=at < space)
    return rest, mean


@triton.jit  # type: ignore[untyped-decorator]
def _finish(  # type: ignore[no-untyped-def]
    logprob_at, entropy_at, factor_at, own_at, chosen, pull, top, rest, mean, nowhere, temperature,
    entropy: tl.constexpr, apart: tl.constexpr,
):  # fmt: skip
    """Write what the sums say; of a target that is no word NaN, but for the entropy."""
    of_target = tl.exp(chosen - top)
    total = rest + of_target
    tl.store(logprob_at, tl.where(nowhere, float("nan"), chosen - top - tl.log(total)))
    if entropy:
        mean += tl.where(of_target > 0, of_target * (chosen - top), 0.0)
        tl.store(entropy_at, tl.log(total) - mean / total)
    if apart:
        tl.store(factor_at, -1 / (total * temperature))
        # The probability of all others: 1 less that of the target would have fewer digits.
        own = rest / total * (pull / temperature)
        tl.store(own_at, tl.where(nowhere, float("nan"), own))


@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["softcap", "temperature"],
    # Parts of vectors, which begin anywhere: it would be compiled for each way in which they do.
    do_not_specialize_on_alignment=[
        *("targets_at", "near_at", "logprobs_at", "entropies_at", "factors_at", "own_at")
    ],
)
def _row_kernel(  # type: ignore[no-untyped-def]
    logits_at, bias_at, targets_at, near_at, logprobs_at, entropies_at, residual_at, factors_at,
    own_at, stride, pitch, words, room, space, softcap, temperature, least, most,
    biased: tl.constexpr, capped: tl.constexpr, entropy: tl.constexpr, residual: tl.constexpr,
    apart: tl.constexpr, known: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Take the row of one token: once where its normaliser is known, else twice."""
    row = tl.program_id(0).to(tl.int64)
    number = logits_at.dtype.element_ty
    softcap, temperature = _double(softcap, number), _double(temperature, number)
    logits_at += row * stride
    residual_at += row * pitch
    target = tl.load(targets_at + row)
    # Before the first reduction, after which a residual may stand in the place of this logit.
    chosen, pull = _read(
        logits_at, bias_at, target, words, room, softcap, temperature, biased, capped
    )
    top = tl.full((), 0.0, chosen.dtype)
    rest, mean = top, top
    lost = True
    if known:
        top = chosen - tl.load(near_at + row)
        rest, mean = _one_read(
            logits_at, bias_at, residual_at, target, top, words, room, space, softcap,
            temperature, biased, capped, entropy, block,
        )  # fmt: skip
        total = rest + tl.exp(chosen - top)
        lost = tl.where((total > least) & (total < most), 0, 1)  # NaN is neither
    if lost:
        top, rest, mean = _sums(
            logits_at, bias_at, target, chosen, words, room, softcap, temperature, biased,
            capped, entropy, block,
        )  # fmt: skip
        if residual:
            total = rest + tl.exp(chosen - top)
            _write(
                logits_at, bias_at, residual_at, target, top, total, words, room, space, softcap,
                temperature, biased, capped, apart, block,
            )  # fmt: skip
    nowhere = (target < 0) | (target >= words)
    _finish(
        logprobs_at + row, entropies_at + row, factors_at + row, own_at + row, chosen, pull, top,
        rest, mean, nowhere, temperature, entropy, apart,
    )  # fmt: skip


def fused_rows(
    logits: Tensor,
    targets: Tensor,
    out: Rows,
    *,
    bias: Tensor | None,
    softcap: float | None,
    temperature: float,
    near: Tensor | None = None,
) -> None:
    """Fill `out` with what a chunk of logits gives; see `Head.rows`.

    Parameters
    ----------
    logits : Tensor, shape (c, V)
        Output of the head without bias, in float32 or float64. Its rows may be farther apart than
        V; they are read to where the next begins.
    targets : Tensor of int64, shape (c,)
        Contiguous; outside the vocabulary the log-probability is NaN.
    out : Rows
        Of these tokens. Its residual may be `logits`, whose place it takes then; rows of another
        are written, with zeros, to where the next begins.
    bias : Tensor, shape (V,), or None
        Contiguous; added to the logits.
    softcap, temperature : float or None, float
        Done to the logits after that.
    near : Tensor, shape (c,), or None
        Log-probabilities of the targets under another policy, in the dtype of the logits: what
        they tell of the normaliser saves a pass over a row where it is near enough.

    Raises
    ------
    ValueError
        If a tensor is not contiguous, on another device, or of another shape: the kernel reads
        memory as it lies, and would answer wrongly without a word.
    TypeError
        If a dtype is another.
    """
    if logits.dim() != 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; expected (c, V)")
    rows, words = logits.shape
    _check_all(logits, targets, out, bias, near)
    apart, residual = out.own is not None, logits if out.residual is None else out.residual
    known = near is not None and apart
    reach = REACH.get(residual.dtype, 0.0)
    # Triton launches on the current GPU, wherever the logits are.
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        _row_kernel[(rows,)](
            logits,
            logits if bias is None else bias.to(logits.dtype),
            targets,
            near if known else logits,
            out.logprobs,
            logits if out.entropy is None else out.entropy,
            residual,
            logits if out.factors is None else out.factors,
            logits if out.own is None else out.own,
            stride=logits.stride(0),
            pitch=residual.stride(0),
            words=words,
            room=room_of(logits),
            space=words if residual.dtype == logits.dtype else room_of(residual),
            softcap=_bits(1.0 if softcap is None else softcap),
            temperature=_bits(temperature),
            least=math.exp(-reach),
            most=math.exp(reach),
            biased=bias is not None,
            capped=softcap is not None,
            entropy=out.entropy is not None,
            residual=out.residual is not None,
            apart=apart,
            known=known,
            block=min(
                block_of(logits.dtype, capped=softcap is not None),
                triton.next_power_of_2(words),
            ),
            num_warps=8,
        )


def block_of(dtype: torch.dtype, *, capped: bool) -> int:
    """Return the words that a program holds at once, so few that none of its registers spills."""
    return BLOCK // (dtype.itemsize // 4) // (1 + capped)


def _bits(value: float) -> int:
    """Return the 64 bits of a number as an integer."""
    found: int = struct.unpack("q", struct.pack("d", value))[0]
    return found


def _check_all(
    logits: Tensor, targets: Tensor, out: Rows, bias: Tensor | None, near: Tensor | None
) -> None:
    """Refuse what the kernel would read or write wrongly."""
    rows, words = logits.shape
    if logits.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"logits is {logits.dtype}; the kernel reads float32 or float64")
    check("logits", logits, logits, (rows, words), logits.dtype)
    check("targets", targets, logits, (rows,), torch.int64)
    if bias is not None:
        check("bias", bias, logits, (words,), bias.dtype)
    check_tokens(out, near, logits, logits.dtype)
    if out.residual is not None:
        check("residual", out.residual, logits, (rows, words), out.residual.dtype)
