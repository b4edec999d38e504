"""Whether Triton kernels can be launched on a GPU: asked by launching one, once for each GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from gspo_rs.logprobs.rows import Rows

__all__ = ["kernel_on"]


def kernel_on(device: torch.device) -> Callable[..., Any] | None:
    """Return what takes all passes over a chunk in one launch: on a GPU, where Triton works.

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
def _launched(device: torch.device) -> Callable[..., Any] | None:
    """Launch the kernel over one token of two words.

    It is compiled for that, which takes a C compiler and the headers of Python besides Triton.
    """
    try:
        from gspo_rs.logprobs.triton_kernel import fused_rows

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
    return fused_rows
