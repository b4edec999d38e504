"""One launch over a chunk of logits on a GPU, where PyTorch takes several passes over its memory.

Letters: ``c`` tokens, ``V`` vocabulary. Loaded only where tensors are on a GPU and Triton is there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["fused_rows"]

BLOCK = 4096
"""Words of the vocabulary that a program holds at once."""
LOWEST = tl.constexpr(-3e38)
"""Below every logit but -inf, from which the difference of two would be NaN."""


@triton.jit  # type: ignore[untyped-decorator]
def _read(  # type: ignore[no-untyped-def]
    logits_at, bias_at, at, words, softcap, temperature, biased: tl.constexpr, capped: tl.constexpr
):  # fmt: skip
    """Return logits as the softmax takes them, -inf past the end, and the slope of the cap."""
    inside = (at >= 0) & (at < words)
    z = tl.load(logits_at + at, mask=inside, other=0.0)
    if biased:
        z += tl.load(bias_at + at, mask=inside, other=0.0)
    slope = tl.full(z.shape, 1.0, z.dtype)
    if capped:
        shrunk = tl.exp(-2 * tl.abs(z / softcap))
        tanh = (1 - shrunk) / (1 + shrunk)
        z = softcap * tl.where(z < 0, -tanh, tanh)
        slope = 1 - tanh * tanh
    return tl.where(inside, z / temperature, float("-inf")), slope


@triton.jit  # type: ignore[untyped-decorator]
def _row_kernel(  # type: ignore[no-untyped-def]
    logits_at, bias_at, targets_at, logprobs_at, entropies_at, residual_at, stride, words,
    softcap, temperature,
    biased: tl.constexpr, capped: tl.constexpr, entropy: tl.constexpr, residual: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Take the row of one token twice: for its maximum and sums, then for its residual."""
    row = tl.program_id(0).to(tl.int64)
    logits_at += row * stride
    target = tl.load(targets_at + row)
    # Before the first reduction, after which a residual may stand in the place of this logit.
    chosen = _read(logits_at, bias_at, target, words, softcap, temperature, biased, capped)[0]
    top = tl.full((), LOWEST, chosen.dtype)
    total = tl.full((), 0.0, chosen.dtype)
    mean = total  # the sum of exp(z - top) (z - top)
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        z = _read(logits_at, bias_at, at, words, softcap, temperature, biased, capped)[0]
        higher = tl.maximum(top, tl.max(z, axis=0))
        p, shrink = tl.exp(z - higher), tl.exp(top - higher)
        if entropy:
            moved = tl.sum(tl.where(p > 0, p * (z - higher), 0.0), axis=0)
            mean = tl.where(total > 0, (mean + total * (top - higher)) * shrink, 0.0) + moved
        total, top = total * shrink + tl.sum(p, axis=0), higher
    logprob = tl.where((target >= 0) & (target < words), chosen - top - tl.log(total), float("nan"))
    tl.store(logprobs_at + row, logprob)
    if entropy:
        tl.store(entropies_at + row, tl.log(total) - mean / total)
    if residual:
        for start in range(0, words, block):
            at = start + tl.arange(0, block)
            z, slope = _read(logits_at, bias_at, at, words, softcap, temperature, biased, capped)
            found = (tl.exp(z - top) / total - tl.where(at == target, 1.0, 0.0)) * slope
            place = residual_at + row * stride + at
            tl.store(place, found.to(residual_at.dtype.element_ty), mask=at < words)


def fused_rows(
    logits: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None,
    softcap: float | None,
    temperature: float,
    residual: torch.dtype | None,
    entropy: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return log-probabilities, entropies and the residual of a chunk; see `Head.rows`.

    Parameters
    ----------
    logits : Tensor, shape (c, V)
        Output of the head without bias, contiguous, in float32 or float64.
    targets : Tensor of int64, shape (c,)
        Contiguous; outside the vocabulary the log-probability is NaN.
    bias : Tensor, shape (V,), or None
        Contiguous; added to the logits.
    softcap, temperature : float or None, float
        Done to the logits after that.
    residual : torch.dtype or None
        In which it is wanted, if at all. In that of the logits it takes their place.
    entropy : bool
        Whether it is wanted.

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
    _check("logits", logits, logits, (rows, words), (torch.float32, torch.float64))
    _check("targets", targets, logits, (rows,), (torch.int64,))
    if bias is not None:
        _check("bias", bias, logits, (words,), (bias.dtype,))
    logprobs = logits.new_empty(rows)
    entropies = torch.empty_like(logprobs) if entropy else None
    found = None
    if residual is not None:
        found = logits if residual == logits.dtype else torch.empty_like(logits, dtype=residual)
    _row_kernel[(rows,)](
        logits,
        logits if bias is None else bias.to(logits.dtype),
        targets,
        logprobs,
        logprobs if entropies is None else entropies,
        logits if found is None else found,
        stride=words,
        words=words,
        softcap=1.0 if softcap is None else softcap,
        temperature=temperature,
        biased=bias is not None,
        capped=softcap is not None,
        entropy=entropy,
        residual=found is not None,
        block=min(BLOCK, triton.next_power_of_2(words)),
        num_warps=8,
    )
    return logprobs, entropies, found


def _check(
    name: str,
    given: Tensor,
    logits: Tensor,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
) -> None:
    """Refuse what the kernel would read wrongly."""
    if given.dtype not in dtypes:
        known = " or ".join(map(str, dtypes))
        raise TypeError(f"{name} is {given.dtype}; the kernel reads {known}")
    if given.shape != shape:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {shape}")
    if given.device != logits.device:
        raise ValueError(f"{name} is on {given.device} and the logits on {logits.device}")
    if not given.is_contiguous():
        raise ValueError(
            f"{name} of shape {tuple(given.shape)} has strides {given.stride()}: it is not"
            f" contiguous, and the kernel reads memory as it lies; give {name}.contiguous()"
        )
