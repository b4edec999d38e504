"""How the tokens of a linear head are cut into chunks, and what is done to their logits.

Letters: ``n`` tokens, of which ``c`` make a chunk, ``D`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

__all__ = ["Scaling", "chunk_bytes", "chunk_rows", "default_chunk_size", "live_runs"]

CHUNK_ELEMENTS = 2**25
"""Logits held at once by default: 128 MiB in float32."""
CHUNK_ROWS = 512
"""Fewest tokens of a default chunk, so that a large head is not read for a handful of them."""
GPU_ROWS = 8192
"""Tokens of a default chunk on a GPU: each chunk reads and writes the whole sum of the head's
gradient, which is 0.6 ms of the 19 ms that its products take at a width of 2048."""
GPU_AT_ONCE = 2048
"""Tokens whose logits are in float32 at once on a GPU, where residuals are in two bytes."""
GPU_SHARE = 0.25
"""Of the memory that is free, for logits and residuals."""
DEAD_ROWS = 64
"""Fewest tokens without slope that are left out: reading the head once more costs as much."""


def default_chunk_size(
    vocabulary: int,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    longest: int = 0,
    width: int = 0,
) -> int:
    """Return the number of tokens per chunk.

    Parameters
    ----------
    vocabulary : int
        Words.
    device : torch.device or str
        On a GPU a chunk is of 8192 tokens, or of the longest sequence, as far as a quarter of the
        memory holds them that was free when the first chunk there was made.
    dtype : torch.dtype
        Of the products; bfloat16 and float16 residuals take half the memory on a GPU.
    longest : int
        Tokens of the longest sequence that is wanted in one chunk.
    width : int
        Of the head: on a CPU a chunk may have as many tokens more for the longest sequence, whose
        logits take as much memory as the gradient of the head does.

    Examples
    --------
    >>> default_chunk_size(32_000), default_chunk_size(512)
    (1048, 65536)
    >>> default_chunk_size(151_936), default_chunk_size(151_936, longest=900, width=1536)
    (512, 900)
    """
    device = torch.device(device)
    if device.type != "cuda":
        size = max(CHUNK_ROWS, CHUNK_ELEMENTS // max(vocabulary, 1))
        return longest if size < longest <= size + width else size
    index = torch.cuda.current_device() if device.index is None else device.index
    room = int(GPU_SHARE * _free(index)) // max(vocabulary, 1)  # bytes for each word
    if dtype in (torch.bfloat16, torch.float16):
        room = max(room - 4 * GPU_AT_ONCE, room // 3)
    rows = room // dtype.itemsize
    return max(min(rows, max(GPU_ROWS, longest)), CHUNK_ROWS)


def chunk_bytes(rows: int, vocabulary: int, device: torch.device | str, dtype: torch.dtype) -> int:
    """Return what logits and residuals of a chunk take: in one place, or of two bytes beside it.

    Examples
    --------
    >>> (
    ...     chunk_bytes(512, 1000, "cpu", torch.bfloat16),
    ...     chunk_bytes(4096, 1000, "cuda", torch.bfloat16),
    ... )
    (2048000, 16384000)
    """
    if torch.device(device).type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return vocabulary * (4 * min(rows, GPU_AT_ONCE) + 2 * rows)
    return vocabulary * rows * (8 if dtype == torch.float64 else 4)


@cache
def _free(index: int) -> int:
    """Return the bytes that a GPU had free when it was first asked, PyTorch's own among them."""
    cached = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return torch.cuda.mem_get_info(index)[0] + cached


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
