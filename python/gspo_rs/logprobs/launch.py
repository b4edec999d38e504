"""Whether Triton kernels can be launched on a GPU: asked by launching one, once for each GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from gspo_rs.logprobs.rows import Rows

__all__ = ["EXPONENTIAL_IN_PRODUCT", "Kernels", "kernels_on"]

EXPONENTIAL_IN_PRODUCT = False
"""Whether a product of our own writes exponentials in place of logits, where `Head.rows` may take
them so. Off until it has been timed on a GPU, where PyTorch's products are hard to match."""


@dataclass(frozen=True)
class Kernels:
    """What takes one launch each where PyTorch takes several operations; see `kernels`."""

    fused_rows: Callable[..., None]
    scale_rows: Callable[..., None]
    add_by_word: Callable[..., None]
    ratio_slopes: Callable[..., torch.Tensor]
    exponential_rows: Callable[..., None]


def kernels_on(device: torch.device) -> Kernels | None:
    """Return the kernels: on a GPU, where Triton works.

    Warns
    -----
    UserWarning
        Once for a GPU on which it does not: PyTorch's operations do the same, more slowly.
    """
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    return _launched(torch.device("cuda", index))


@cache
def _launched(device: torch.device) -> Kernels | None:
    """Launch the first kernel over one token of two words.

    It is compiled for that, which takes a C compiler and the headers of Python besides Triton.
    """
    try:
        from gspo_rs.logprobs.kernels.exponentials import exponential_rows
        from gspo_rs.logprobs.kernels.own import add_by_word, scale_rows
        from gspo_rs.logprobs.kernels.ratios import ratio_slopes
        from gspo_rs.logprobs.kernels.rows import fused_rows

        logits = torch.zeros((1, 2), device=device)
        out = Rows.like(logits, 1)
        targets = torch.zeros(1, dtype=torch.int64, device=device)
        fused_rows(logits, targets, out, bias=None, softcap=None, temperature=1.0)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- of whatever kind, it is reported
        reason = next(iter(str(error).splitlines()), "")
        warnings.warn(
            f"Triton kernels cannot be launched on {device}, so that PyTorch's operations take"
            f" their place, more slowly: {type(error).__name__}: {reason}",
            stacklevel=2,
        )
        return None
    return Kernels(fused_rows, scale_rows, add_by_word, ratio_slopes, exponential_rows)
