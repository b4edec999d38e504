"""Micro-batches: whole sequences laid out for one forward pass, with the loss inputs of each.

Letters: ``B`` sequences, ``n_tokens`` their sampled tokens, ``R`` rows and ``S`` columns of the
model's input. The last token of a sequence predicts nothing, so it is not an input.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.groups.packing import pack
from gspo_rs.losses.layout import to_device
from gspo_rs.rollouts.rollouts import Ragged, joined_ranges

Shape = Literal["packed", "padded"]


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch on its device.

    Attributes
    ----------
    input_ids : Tensor of int64, shape (R, S)
        Prompt and completion of every sequence: right-padded rows, or all of them in one row.
    position_ids : Tensor of int64, shape (1, S), or None
        Packed: the place of each token in its sequence, from which the model tells sequences
        apart. None for padded rows, where the causal mask already hides the padding that follows.
    positions : Tensor of int64, shape (n_tokens,)
        Places in the flattened ``(R * S,)`` input whose next token was sampled.
    targets : Tensor of int64, shape (n_tokens,)
        Those tokens, sequence after sequence.
    lengths : Tensor of int64, shape (B,)
        Sampled tokens per sequence.
    rows : ndarray of int64, shape (B,)
        Which sequences of the optimizer step these are.
    counted : bool
        Whether they count here: False for a pass that is taken because other processes take one.
    """

    input_ids: Tensor
    position_ids: Tensor | None
    positions: Tensor
    targets: Tensor
    lengths: Tensor
    rows: NDArray[np.int64]
    counted: bool = True


def split(
    prompts: Ragged, completions: Ragged, *, shape: Shape, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Split sequences into micro-batches of at most `max_tokens` input tokens, padding included.

    Parameters
    ----------
    prompts, completions : Ragged of int64
        One row per sequence.
    shape : {"packed", "padded"}
        Padded micro-batches hold sequences of like length.
    max_tokens : int
        The budget; a sequence that is longer gets a micro-batch of its own.

    Returns
    -------
    list of ndarray of int64
        Rows of each micro-batch; together every row once.

    Examples
    --------
    >>> one = Ragged.from_rows([[1], [1], [1]], np.int64)
    >>> texts = Ragged.from_rows([[5], [5, 6, 7, 8], [5, 6, 7]], np.int64)
    >>> split(one, texts, shape="padded", max_tokens=8)
    [array([1, 2]), array([0])]
    """
    lengths = prompts.lengths + completions.lengths - 1
    if len(lengths) == 0:
        return []
    max_tokens = max(max_tokens, int(lengths.max()))
    if shape == "packed":
        return pack(lengths, max_tokens)
    order = np.argsort(-lengths, kind="stable")
    cuts, start = [], 0
    while start < len(order):
        rows = max_tokens // max(int(lengths[order[start]]), 1)
        cuts.append(order[start : start + rows])
        start += rows
    return cuts


def collate(
    prompts: Ragged,
    completions: Ragged,
    rows: NDArray[np.int64],
    *,
    shape: Shape,
    mask: Ragged | None = None,
    device: torch.device | str = "cpu",
) -> MicroBatch:
    """Lay out the sequences `rows` for one forward pass.

    Parameters
    ----------
    prompts, completions : Ragged of int64
        Tokens of every sequence of the step; none is empty.
    rows : ndarray of int64, shape (B,)
        The sequences of this micro-batch.
    shape : {"packed", "padded"}
        One row of sequences end to end, or one right-padded row each.
    mask : Ragged of bool, optional
        Which tokens of the completions were sampled; the model reads the others, but predicts none
        of them. All by default.
    device : torch.device or str
        Where the tensors go; to a GPU from pinned memory, without waiting.

    Returns
    -------
    MicroBatch
        Whose tokens are in the order of `rows`.

    Raises
    ------
    ValueError
        If a completion has no sampled token, or a prompt none that would predict the completion's
        first.

    Examples
    --------
    >>> prompts = Ragged.from_rows([[1, 2], [3]], np.int64)
    >>> texts = Ragged.from_rows([[7], [8, 9]], np.int64)
    >>> batch = collate(prompts, texts, np.array([0, 1]), shape="packed")
    >>> batch.input_ids.tolist(), batch.position_ids.tolist(), batch.positions.tolist()
    ([[1, 2, 3, 8]], [[0, 1, 0, 1]], [1, 2, 3])
    """
    starts, texts = prompts.rows(rows), completions.rows(rows)
    asked = None if mask is None else mask.rows(rows)
    targets = texts.where(asked)
    for name, part in (("prompt", starts), ("completion", targets)):
        if not part.lengths.all():
            raise ValueError(f"the {name} of sequence {rows[int(part.lengths.argmin())]} is empty")
    inputs = starts.lengths + texts.lengths - 1
    width = int(inputs.max(initial=0))
    first = np.cumsum(inputs) - inputs if shape == "packed" else np.arange(len(rows)) * width
    ids = np.zeros(int(inputs.sum()) if shape == "packed" else width * len(rows), dtype=np.int64)
    ids[joined_ranges(first, starts.lengths)] = starts.values
    positions = joined_ranges(first + starts.lengths - 1, texts.lengths)
    # A completion's tokens follow the positions that predict them, but for the last one's.
    fed = np.ones(len(positions), dtype=bool)
    fed[np.cumsum(texts.lengths) - 1] = False
    ids[positions[fed] + 1] = texts.values[fed]
    if asked is not None:
        positions = positions[asked.values]
    places = joined_ranges(np.zeros_like(first), inputs)[None] if shape == "packed" else None
    return MicroBatch(
        input_ids=_tensor(ids.reshape(1 if shape == "packed" else len(rows), -1), device),
        position_ids=None if places is None else _tensor(places, device),
        positions=_tensor(positions, device),
        targets=_tensor(targets.values, device),
        lengths=_tensor(targets.lengths, device),
        rows=rows,
    )


def _tensor(values: NDArray[np.int64], device: torch.device | str) -> Tensor:
    return to_device(torch.from_numpy(np.ascontiguousarray(values)), device)
