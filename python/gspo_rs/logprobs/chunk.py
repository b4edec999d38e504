"""One chunk of tokens against a linear head: logits, log-softmax, and the three matrix products.

Letters: ``n`` tokens, of which ``c`` make a chunk, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

__all__ = ["Gradients", "Head", "Scaling", "chunk_rows", "default_chunk_size", "live_runs"]

CHUNK_ELEMENTS = 2**25
"""Logits held at once by default: 128 MiB in float32."""
CHUNK_ROWS = 512
"""Fewest tokens of a default chunk, so that a large head is not read for a handful of them."""

DEAD_ROWS = 64
"""Fewest tokens without slope that are left out: reading the head once more costs as much."""


def default_chunk_size(vocabulary: int) -> int:
    """Return the number of tokens per chunk for a vocabulary of this size.

    Examples
    --------
    >>> default_chunk_size(32_000), default_chunk_size(512)
    (1048, 65536)
    """
    return max(CHUNK_ROWS, CHUNK_ELEMENTS // max(vocabulary, 1))


def chunk_rows(n: int, size: int) -> Iterator[slice]:
    """Cut ``n`` tokens into chunks of `size`; the last may be smaller.

    Examples
    --------
    >>> list(chunk_rows(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def live_runs(slopes: Tensor) -> list[slice]:
    """Cut out the tokens whose slope is 0, where they are many in a row; none on a GPU.

    Examples
    --------
    >>> live_runs(torch.cat([torch.ones(2), torch.zeros(64), torch.ones(1), torch.zeros(9)]))
    [slice(0, 2, None), slice(66, 67, None)]
    """
    if slopes.is_cuda:  # looking would keep the host waiting
        return [slice(0, len(slopes))]
    runs: list[slice] = []
    for at in slopes.nonzero()[:, 0].tolist():
        if runs and at - runs[-1].stop < DEAD_ROWS:
            runs[-1] = slice(runs[-1].start, at + 1)
        else:
            runs.append(slice(at, at + 1))
    return runs


@dataclass(frozen=True)
class Scaling:
    """What is done to the output of a head before the softmax: the soft cap, then the temperature.

    Attributes
    ----------
    temperature : float
        Positive; divides the capped logits.
    softcap : float or None
        Positive; logits become ``softcap * tanh(logits / softcap)``.
    """

    temperature: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("softcap", self.softcap)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it should be positive")


def kernel_on(device: torch.device) -> Callable[..., Any] | None:
    """Return what takes all passes over a chunk in one launch: on a GPU, where Triton is."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    from gspo_rs.logprobs.triton_kernel import fused_rows

    return fused_rows


@dataclass(frozen=True)
class Head:
    """A head, and the buffers that hold the logits of one chunk at a time.

    Attributes
    ----------
    weight : Tensor, shape (V, D)
        In the dtype of the products' factors.
    bias : Tensor, shape (V,), or None
        Added to the logits.
    scaling : Scaling
        Done to the logits.
    logits : Tensor, shape (c, V)
        Scratch for the largest chunk, in float32 at least. It is written over by each chunk:
        fresh memory for each would cost more than its softmax.
    softmax : Tensor, shape (c, V)
        The same memory, except under a soft cap, whose slope needs the logits once more.
    kernel : callable or None
        Takes the place of PyTorch's passes over the logits.
    """

    weight: Tensor
    bias: Tensor | None
    scaling: Scaling
    logits: Tensor
    softmax: Tensor
    kernel: Callable[..., Any] | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, scaling: Scaling, rows: int) -> Head:
        """Make room for chunks of `rows` tokens."""
        dtype = _sum_dtype(weight)
        if weight.device.type != "cuda":
            weight = weight.to(dtype)  # once; here low precision has no products of its own
        logits = weight.new_empty((rows, weight.shape[0]), dtype=dtype)
        kernel = kernel_on(weight.device)
        apart = scaling.softcap is not None and kernel is None
        softmax = torch.empty_like(logits) if apart else logits
        return cls(weight, bias, scaling, logits, softmax, kernel)

    def rows(
        self, hidden: Tensor, targets: Tensor, *, residual: bool, entropy: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what a chunk of tokens gives: log-probabilities, entropy, residual.

        The residual, (c, V), is ``softmax - one-hot`` times the slope of the soft cap: the
        gradient, not of the target's log-probability but of its negative, for the output of the
        head times the temperature. It is valid until the next chunk.
        """
        if self.kernel is None:
            return self._passes(hidden, targets, residual=residual, entropy=entropy)
        logits = _product(hidden, self.weight.T, self.weight.dtype, self.logits[: len(hidden)])
        found: tuple[Tensor, Tensor | None, Tensor | None] = self.kernel(
            logits,
            targets.contiguous(),
            bias=None if self.bias is None else self.bias.contiguous(),
            softcap=self.scaling.softcap,
            temperature=self.scaling.temperature,
            residual=self.weight.dtype if residual else None,
            entropy=entropy,
        )
        return found

    def _passes(
        self, hidden: Tensor, targets: Tensor, *, residual: bool, entropy: bool
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Do with several operations of PyTorch what the kernel does with one."""
        logits = self._scaled(hidden, self.logits[: len(hidden)])
        every = self.softmax[: len(hidden)]
        if logits.is_cuda:  # where looking for lost ones, as below, would keep the host waiting
            logprobs = pick(torch.log_softmax(logits, dim=1, out=every), targets)
            every.exp_()
        else:
            logprobs = pick(torch.softmax(logits, dim=1, out=every), targets)
            lost = (logprobs < torch.finfo(logprobs.dtype).tiny).nonzero()[:, 0]
            logprobs.log_()
            if len(lost) > 0:
                logprobs[lost] = self._anew(hidden[lost], targets[lost])
        entropies = _entropies(every) if entropy else None
        return logprobs, entropies, self._residual(targets) if residual else None

    def _scaled(self, hidden: Tensor, out: Tensor) -> Tensor:
        logits = _product(hidden, self.weight.T, self.weight.dtype, out)
        if self.bias is not None:
            logits += self.bias
        if self.scaling.softcap is not None:
            logits.div_(self.scaling.softcap).tanh_().mul_(self.scaling.softcap)
        if self.scaling.temperature != 1.0:
            logits /= self.scaling.temperature
        return logits

    def _anew(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return log-probabilities below those whose exponential the dtype can hold."""
        logits = self._scaled(hidden, self.logits.new_empty(len(hidden), self.logits.shape[1]))
        return pick(torch.log_softmax(logits, dim=1, out=logits), targets)

    def _residual(self, targets: Tensor) -> Tensor:
        rows = len(targets)
        residual = self.softmax[:rows]
        residual[torch.arange(rows, device=targets.device), targets] -= 1
        if self.scaling.softcap is not None:
            tanh = self.logits[:rows].mul_(self.scaling.temperature / self.scaling.softcap)
            residual *= tanh.square_().neg_().add_(1)
        return residual.to(self.weight.dtype)


def _entropies(softmax: Tensor) -> Tensor:
    """Return the entropy of each row: as of `torch.special.entr`, whose logarithms are scalar."""
    logs = softmax.clamp(min=torch.finfo(softmax.dtype).tiny).log_()
    return logs.mul_(softmax).sum(dim=1).neg_()


@dataclass(frozen=True)
class Gradients:
    """Sums of gradients in float32 at least: in bfloat16 the later chunks would be rounded away.

    Attributes
    ----------
    hidden : Tensor, shape (n, D), or None
        None, here and below, where no gradient is asked.
    weight : Tensor, shape (V, D), or None
    bias : Tensor, shape (V,), or None
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, inputs: tuple[Tensor | None, ...], needed: tuple[bool, ...]) -> Gradients:
        """Make room for the gradients of those of `inputs` (hidden, weight, bias) that need one."""
        return cls(
            *(
                torch.zeros_like(x, dtype=_sum_dtype(x)) if x is not None and need else None
                for x, need in zip(inputs, needed, strict=True)
            )
        )

    def add(self, head: Head, hidden: Tensor, rows: slice, residual: Tensor, scale: Tensor) -> None:
        """Add those of a chunk whose tokens' log-probabilities count `scale`, (c,), in the loss."""
        for run in live_runs(scale):
            at = slice(rows.start + run.start, rows.start + run.stop)
            self._add(head, hidden, at, residual[run], scale[run])

    def _add(
        self, head: Head, hidden: Tensor, rows: slice, residual: Tensor, scale: Tensor
    ) -> None:
        # Scaling the D columns of hidden is cheaper than scaling the V columns of the residual.
        scale = scale[:, None] / -head.scaling.temperature
        dtype = head.weight.dtype
        if self.hidden is not None:
            _product(residual, head.weight, dtype, self.hidden[rows]).mul_(scale)
        if self.weight is not None:
            _accumulate(self.weight, residual.T, hidden[rows] * scale, dtype)
        if self.bias is not None:
            _accumulate(self.bias[:, None], residual.T, scale, dtype)

    def apart(self) -> Gradients:
        """Make room for a sequence whose slope is not known yet; `hidden` is shared."""
        zeros = (
            None if total is None else torch.zeros_like(total) for total in (self.weight, self.bias)
        )
        return Gradients(self.hidden, *zeros)

    def absorb(self, apart: Gradients, slope: Tensor, rows: slice) -> None:
        """Add what was summed up apart for the tokens `rows`, scaled, and set it back to zero."""
        if self.hidden is not None:
            self.hidden[rows] *= slope
        for total, part in ((self.weight, apart.weight), (self.bias, apart.bias)):
            if total is not None and part is not None:
                total.addcmul_(part, slope)
                part.zero_()

    def like(self, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        """Round each sum to the dtype of its input."""
        sums = (self.hidden, self.weight, self.bias)
        return tuple(
            None if total is None or x is None else total.to(x.dtype)
            for total, x in zip(sums, inputs, strict=True)
        )


def pick(logprobs: Tensor, targets: Tensor) -> Tensor:
    """Take the log-probability of each target, (c,), from those of the vocabulary, (c, V)."""
    return logprobs.gather(1, targets[:, None])[:, 0]


def _sum_dtype(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _product(a: Tensor, b: Tensor, dtype: torch.dtype, out: Tensor) -> Tensor:
    """Multiply matrices as `dtype` into `out`, whose float32 at least no sum is rounded from."""
    with torch.autocast(a.device.type, enabled=False):
        if dtype == out.dtype:
            return torch.mm(a.to(dtype), b, out=out)
        return torch.mm(a.to(dtype), b, out_dtype=out.dtype, out=out)


def _accumulate(total: Tensor, a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
    """Add the product of two matrices, taken as `dtype`, to `total`."""
    with torch.autocast(a.device.type, enabled=False):
        if dtype == total.dtype:
            total.addmm_(a, b)
        else:
            torch.addmm(total, a.to(dtype), b.to(dtype), out_dtype=total.dtype, out=total)
