"""What a kernel is given: refused where it would read or write memory wrongly, without a word."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check", "room_of"]


def check(
    name: str, given: Tensor, like: Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Refuse a tensor of another dtype, shape or device, or whose numbers are not in a row."""
    if given.dtype != dtype:
        raise TypeError(f"{name} is {given.dtype}; the kernel takes {dtype}")
    if given.shape != shape:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {shape}")
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


def room_of(matrix: Tensor) -> int:
    """Return how many numbers of each row may be read: to the next, if the last has as many."""
    rows, words = matrix.shape
    stride = matrix.stride(0)
    held = matrix.untyped_storage().nbytes() // matrix.element_size() - matrix.storage_offset()
    return stride if held >= rows * stride else words
