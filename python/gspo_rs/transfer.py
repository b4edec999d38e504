"""Transfer: tensors sent to their device without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sent"]


def sent(values: Tensor, device: torch.device | str) -> Tensor:
    """Send a tensor to `device`; from the CPU to a GPU through pinned memory, without waiting.

    Parameters
    ----------
    values : Tensor
        Of any shape and dtype.
    device : torch.device or str
        Where it is wanted.

    Returns
    -------
    Tensor
        `values` itself if it is there already.

    Examples
    --------
    >>> values = torch.ones(2)
    >>> sent(values, "cpu") is values
    True
    """
    device = torch.device(device)
    if values.device.type == "cpu" and device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
