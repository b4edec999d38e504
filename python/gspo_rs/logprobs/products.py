"""Matrix products of a head: factors of one dtype, sums in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["accumulate", "narrow_on", "product", "sum_dtype"]


def sum_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype in which these are summed up: float32, or theirs if it is float64."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def narrow_on(device: torch.device) -> bool:
    """Return whether products of bfloat16 and float16 with sums in float32 exist on a device."""
    return device.type == "cuda"


def product(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Multiply matrices of one dtype into `out`, whose float32 at least no sum is rounded from."""
    with torch.autocast(a.device.type, enabled=False):
        if a.dtype == out.dtype:
            return torch.mm(a, b, out=out)
        return torch.mm(a, b, out_dtype=out.dtype, out=out)


def accumulate(total: Tensor, a: Tensor, b: Tensor, scale: Tensor | None = None) -> None:
    """Add the product of two matrices to `total`; `b` times `scale` is rounded to the dtype of `a`.

    To float16 in units of its largest: the weights of a loss, a millionth each, have few digits
    there or none.
    """
    if a.dtype == torch.float16:
        b = b.to(total.dtype) if scale is None else b * scale
        unit = torch.exp2(b.abs().amax().clamp(min=torch.finfo(b.dtype).tiny).log2().ceil())
        total.addcmul_(product(a, (b / unit).to(a.dtype), torch.empty_like(total)), unit)
        return
    if scale is not None:
        b = torch.mul(b, scale, out=torch.empty_like(b, dtype=a.dtype))
    with torch.autocast(a.device.type, enabled=False):
        if a.dtype == total.dtype:
            total.addmm_(a, b)
        else:
            torch.addmm(total, a, b.to(a.dtype), out_dtype=total.dtype, out=total)
