"""Weights in half the bytes where float32 adds nothing: to sample from, or below adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["freeze_narrow", "narrow_bytes", "narrowed"]


@contextmanager
def narrowed(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Hold the float32 weights of a model in another dtype, and give them back as they were.

    Parameters
    ----------
    model : torch.nn.Module
        The float32 weights stay beside their copies. Numbers that a model does not save, such as
        the frequencies of rotary positions, stay float32 as transformers loads them.
    dtype : torch.dtype
        Such as bfloat16.

    Notes
    -----
    Without autocast, which would cast every weight for every token, and leave keys and values in
    float32: their rotary factors and what they are added to are.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> with narrowed(layer, torch.bfloat16):
    ...     layer.weight.dtype
    torch.bfloat16
    >>> layer.weight.dtype
    torch.float32
    """
    wide = [(part, part.data) for part in _float32(model)]
    try:
        for part, data in wide:
            part.data = data.to(dtype)
        yield
    finally:
        for part, data in wide:
            part.data = data


def narrow_bytes(model: nn.Module) -> int:
    """Return what the copies of `narrowed` take, of two bytes a number."""
    return sum(2 * part.numel() for part in _float32(model))


def freeze_narrow(model: nn.Module, dtype: torch.dtype) -> None:
    """Round the frozen weights of linear layers to the dtype in which autocast computes with them.

    What is computed keeps its bits: autocast would round them at every use. Embeddings, norms and
    a head that is an embedding, of which it computes in float32, stay as they are.

    Parameters
    ----------
    model : torch.nn.Module
        Its frozen weights are replaced.
    dtype : torch.dtype
        Of the autocast.

    Examples
    --------
    >>> layer = nn.Linear(2, 2).requires_grad_(False)
    >>> freeze_narrow(layer, torch.bfloat16)
    >>> layer.weight.dtype
    torch.bfloat16
    """
    layers = [one for one in model.modules() if type(one) is nn.Linear]
    linear = {id(part) for layer in layers for part in layer.parameters(recurse=False)}
    others = {
        id(part)
        for module in model.modules()
        if type(module) is not nn.Linear
        for part in module.parameters(recurse=False)
    }
    for part in model.parameters():
        frozen = not part.requires_grad and part.dtype == torch.float32
        if frozen and id(part) in linear - others:
            part.data = part.data.to(dtype)


def _float32(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights, and the numbers saved with them, that are float32, each once."""
    saved = model.state_dict(keep_vars=True).values()
    every = [*model.parameters(), *(part for part in saved if isinstance(part, torch.Tensor))]
    once = {id(part): part for part in every if part.dtype == torch.float32}
    return list(once.values())
