"""A model whose weights, gradients and optimizer state are cut over the processes of a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = ["Sharded", "collected", "collected_in_parts", "copied", "cut_like", "shard", "whole"]

PART = 2**30
"""Bytes of the tensors that are gathered at once where not all have to be."""


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

    def cut(self) -> None:
        """Cut what a pass with gradient has left whole for a backward pass that does not come."""
        for part in self.modules():
            if isinstance(part, FSDPModule):
                part.reshard()

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


def shard(
    model: nn.Module, autocast: torch.dtype | None, device: torch.device, replicas: int = 1
) -> Sharded:
    """Cut the weights that rank 0 has over all processes, layer by layer, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        Whole on rank 0; on the others it may be on the meta device, and what it holds is not read.
        Weights are sent one after another, so that no other rank ever has two whole ones.
    autocast : torch.dtype or None
        Precision of the computation; gradients are summed in float32.
    device : torch.device
        Where each keeps its parts.
    replicas : int
        Copies of the weights, each cut over as many ranks that follow one another; divides their
        number.

    Returns
    -------
    Sharded
        Whose gradients are sums over the ranks where a loss is multiplied by their number: FSDP
        takes means, and a divisor of 1 is refused by gloo.
    """
    size = dist.get_world_size()
    shape = ({"replica": replicas} if replicas > 1 else {}) | {"shard": size // replicas}
    mesh = init_device_mesh(device.type, tuple(shape.values()), mesh_dim_names=tuple(shape))
    how: dict[str, Any] = {"mesh": mesh}
    if autocast is not None:
        how["mp_policy"] = MixedPrecisionPolicy(autocast, reduce_dtype=torch.float32)
    _take_buffers(model, device)
    given = [weight.detach() for weight in model.parameters()]
    root = Sharded(model)
    for layer in [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]:
        fully_shard(layer, **how)
    fully_shard(root, **how)
    _take_weights(model, given, device)
    return root


def _take_buffers(model: nn.Module, device: torch.device) -> None:
    """Give every rank the buffers of rank 0."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            value = torch.empty_like(buffer, device=device) if buffer.is_meta else buffer.to(device)
            dist.broadcast(value := value.contiguous(), src=0)
            setattr(module, name, value)


@torch.no_grad()
def _take_weights(model: nn.Module, given: list[Tensor], device: torch.device) -> None:
    """Give every rank its parts of the weights of rank 0, which lets go of each as it is sent."""
    cuts: list[DTensor] = list(model.parameters())  # type: ignore[arg-type]
    taken: dict[int, nn.Parameter] = {}
    for cut in reversed(cuts):
        weight = given.pop()
        full = torch.empty_like(weight, device=device) if dist.get_rank() else weight.to(device)
        own = distribute_tensor(full, cut.device_mesh, cut.placements)
        taken[id(cut)] = nn.Parameter(own, requires_grad=cut.requires_grad)
    named = model.named_parameters(remove_duplicate=False)  # so that tied weights stay one
    state = {name: taken[id(cut)] for name, cut in named}
    model.load_state_dict(state, strict=False, assign=True)


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


def collected_in_parts(tensors: Mapping[str, Tensor], *, keep: bool) -> Iterator[dict[str, Tensor]]:
    """Yield tensors as `collected` does, up to `PART` bytes of them at once, or one that is larger.

    All ranks have to take all parts.
    """
    part: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        n_bytes = tensor.numel() * tensor.element_size()
        if part and size + n_bytes > PART:
            yield collected(part, keep=keep)
            part, size = {}, 0
        part[name] = tensor
        size += n_bytes
    if part:
        yield collected(part, keep=keep)


def cut_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's part of a tensor that all have, if `like` is cut over the ranks."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)
