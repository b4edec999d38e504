"""A model whose weights, gradients and optimizer state are cut over the processes of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = ["Sharded", "collected", "copied", "cut_like", "shard", "whole"]


class Sharded(nn.Module):
    """Runs functions of a model inside a forward pass, where its head is at hand as well.

    What is not in a layer, such as embeddings, last norm and head, is gathered while the root
    runs; the head is used outside its own forward, so that only here its weight is there.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        On its device.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        # What is cut can't be copied any more. In a list, since it is no part of this module.
        self._plain = [copied(model, lambda weight: weight.to("meta"))]

    def skeleton(self) -> nn.Module:
        """Return a copy of the model as it was before it was cut, without weights."""
        return copied(self._plain[0], lambda weight: weight)

    def forward(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Return ``function(model, *given, **named)``."""
        return function(self.model, *given, **named)

    def read(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Return ``function(model, *given, **named)``, a pass with or without gradient."""
        root: Any = self
        # What is gathered for a pass without gradient would stay, and outlive the next step.
        root.set_reshard_after_forward(not torch.is_grad_enabled(), recurse=False)
        return root(function, *given, **named)

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Keep all weights whole, for many passes without gradient, and cut them again after.

        Otherwise each token of a completion would gather every layer anew.
        """
        parts = [part for part in self.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
        try:
            for part in parts:
                part.unshard()
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(part is not parts[0], recurse=False)


def shard(model: nn.Module, autocast: torch.dtype | None) -> Sharded:
    """Cut the weights of a model over all processes, layer by layer, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        With the same weights on every rank.
    autocast : torch.dtype or None
        Precision of the computation; gradients are summed in float32.

    Returns
    -------
    Sharded
        Whose gradients are sums over the ranks where a loss is multiplied by their number: FSDP
        takes means, and a divisor of 1 is refused by gloo.
    """
    precision = MixedPrecisionPolicy(param_dtype=autocast, reduce_dtype=torch.float32)
    how: dict[str, Any] = {} if autocast is None else {"mp_policy": precision}
    root = Sharded(model)
    for layer in [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]:
        fully_shard(layer, **how)
    fully_shard(root, **how)
    return root


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be cut over the ranks as one; all of them have to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copied(model: nn.Module, weight: Callable[[Tensor], Tensor]) -> nn.Module:
    """Copy a model to the CPU, each parameter as `weight` makes one of it.

    Parameters
    ----------
    model : torch.nn.Module
        Stays as it is.
    weight : callable
        Gets a detached parameter; one that stands in two places is one in the copy as well.

    Returns
    -------
    torch.nn.Module
        Whose parameters take no gradient.
    """
    new: dict[int, Any] = {}
    for old in model.parameters():
        new[id(old)] = nn.Parameter(weight(old.detach()), requires_grad=False)
    new |= {id(old): old.detach().to("cpu", copy=True) for old in model.buffers()}
    return copy.deepcopy(model, new)


def collected(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Return tensors that may be cut over the ranks as whole ones, one gathered after another.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        The same names, in the same order, on every rank. Those cut are moved to the CPU.
    keep : bool
        Whether this rank wants them: the others help, and get nothing.

    Returns
    -------
    dict of str to Tensor
        One that stands under two names, such as a tied embedding, is one here as well.
    """
    found: dict[str, Tensor] = {}
    seen: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            one = tensor
        elif (place := tensor.to_local().data_ptr()) in seen and place:
            one = seen[place]
        else:
            one = whole(tensor.detach())
            one = one.cpu() if keep else one.new_empty(0)
            seen[place] = one
        if keep:
            found[name] = one
    return found


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a tensor that all have, if `like` is cut over the ranks."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
