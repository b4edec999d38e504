"""What a kernel is given: refused where it would read or write memory wrongly, without a word."""

from __future__ import annotations

import torch
from torch import Tensor

from gspo_rs.logprobs.rows import Rows

__all__ = ["check", "check_tokens", "room_of"]


def check(
    name: str, given: Tensor, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Refuse a tensor of another dtype, shape or device, or whose numbers are not in a row."""
    if given.dtype != dtype:
        raise TypeError(f"{name} is {given.dtype}; the kernel takes {dtype}")
    if given.shape != shape:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {tuple(shape)}")
    if given.device != like.device:
        raise ValueError(f"{name} is on {given.device} and the rest on {like.device}")
    # Rows may be apart, but not on one another; what has one row or one word may have any stride.
    whole = given.dim() == 1 or shape[1] <= 1 or given.stride(1) == 1
    apart = given.dim() == 1 or shape[0] <= 1 or given.stride(0) >= shape[1]
    if not (given.is_contiguous() if given.dim() == 1 else whole and apart):
        raise ValueError(
            f"{name} of shape {tuple(given.shape)} has strides {given.stride()}: it is not"
            f" contiguous, and the kernel reads memory as it lies; give {name}.contiguous()"
        )


def check_tokens(out: Rows, near: Tensor | None, like: Tensor, dtype: torch.dtype) -> None:
    """Refuse what there is one number of for each row of `like`, if it is not of the dtype."""
    of_tokens = {"near": near, "logprobs": out.logprobs, "entropy": out.entropy}
    of_tokens |= {"factors": out.factors, "own": out.own}
    for name, given in of_tokens.items():
        if given is not None:
            check(name, given, like, like.shape[:1], dtype)
    if (out.factors is None) != (out.own is None):
        raise ValueError("factors and own go together: give both or neither")


def room_of(matrix: Tensor) -> int:
    """Return how many numbers of each row may be read: to the next, if the last has as many."""
    rows, words = matrix.shape
    stride = matrix.stride(0)
    held = matrix.untyped_storage().nbytes() // matrix.element_size() - matrix.storage_offset()
    return stride if held >= rows * stride else words
