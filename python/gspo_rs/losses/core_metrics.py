"""The metrics of tensors that the core can read: float32 in memory, in one pass.

PyTorch takes a hundred small operations for them, which on a CPU cost more than the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gspo_rs import _core
from gspo_rs.losses.band import Band
from gspo_rs.losses.layout import Layout

__all__ = ["core_metrics"]


def core_metrics(log_ratio: Tensor, layout: Layout, band: Band | None) -> dict[str, Tensor]:
    """Compute the metrics of `policy_metrics` for `readable` log-ratios."""
    mask = None if layout.mask is None else _array(layout.mask.view(torch.uint8))
    clip = None
    if band is not None:
        # Rows of a padded batch may have one advantage each that is not spread over the columns.
        narrow = layout.mask is not None and band.advantages.shape[-1] == 1
        clip = (
            (1 - band.low, 1 + band.high),
            _array(band.ratio),
            _array(band.advantages),
            (band.level == "sequence", band.by_sequence or narrow),
        )
    names, values = _core.ratio_metrics(_array(log_ratio), mask, _array(layout.lengths), clip)
    return dict(zip(names, torch.from_numpy(values).unbind(), strict=True))


def _array(values: Tensor) -> Any:
    """Lay the values out flat as an array; without a copy if they are contiguous."""
    return values.reshape(-1).numpy()
