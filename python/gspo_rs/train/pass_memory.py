"""What autograd keeps of a pass for its backward pass, measured on passes of a few tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from gspo_rs.logprobs.model_head import OutputHead, head_inputs
from gspo_rs.train.model.layers import recomputes
from gspo_rs.train.model.policy import Policy

__all__ = ["PassMemory", "pass_memory", "tensor_bytes"]

PROBES = 16, 32, 64
"""Tokens of the passes from whose activations those of a micro-batch are extrapolated."""


@dataclass(frozen=True)
class PassMemory:
    """Bytes that the layers of a model keep of a pass.

    Attributes
    ----------
    const : float
        Of any pass: nothing, or copies of weights.
    token : float
        Of each token, padding included.
    pair : float
        Of each two tokens of a row, where attention keeps them.
    layers : int
        Of the model.
    input : int
        Of a token at the border of a layer.
    recomputed : bool
        Whether layers keep their inputs only, and compute the rest again one after another.
    """

    const: float
    token: float
    pair: float
    layers: int
    input: int
    recomputed: bool = False

    def of(self, rows: int, columns: int) -> int:
        """Return the bytes of a micro-batch.

        Examples
        --------
        >>> kept = PassMemory(const=0, token=100, pair=1, layers=10, input=2)
        >>> kept.of(3, 5), kept.recomputing().of(3, 5)
        (1575, 458)
        """
        tokens = rows * columns
        every = self.const + tokens * (self.token + self.pair * columns)
        if not self.recomputed:
            return round(every)
        return round(every / self.layers + self.layers * tokens * self.input)

    def tokens_within(self, room: float, columns: int) -> int:
        """Return the most tokens of a micro-batch of rows of some length that fit in a room.

        Examples
        --------
        >>> kept = PassMemory(const=0, token=100, pair=1, layers=10, input=2)
        >>> kept.tokens_within(1575, columns=5), kept.tokens_within(0, columns=5)
        (15, 0)
        """
        const, token = self.const, self.token + self.pair * columns
        if self.recomputed:
            const, token = const / self.layers, token / self.layers + self.layers * self.input
        return max(int((room - const) / max(token, 1)), 0)

    def recomputing(self) -> PassMemory:
        """Return the same of a model whose activations are recomputed."""
        return replace(self, recomputed=True)


def pass_memory(policy: Policy) -> PassMemory:
    """Measure what a policy keeps, with hooks on the tensors that autograd saves.

    Parameters
    ----------
    policy : Policy
        Without gradients. It reads a few tokens; of several processes all have to ask.
    """
    most = min(policy.context or PROBES[-1], PROBES[-1])
    sizes = [max(most * size // PROBES[-1], 1) for size in PROBES]
    if len(set(sizes)) < len(sizes):
        sizes = [1, 2, 3]
    kept = [_saved(policy, size) for size in sizes]
    const, token, pair = map(float, np.linalg.solve(np.vander(sizes, increasing=True), kept))
    config = policy.model.config.get_text_config()
    return PassMemory(
        const=max(const, 0),
        token=token,
        pair=max(pair, 0),
        layers=int(config.num_hidden_layers),
        input=int(config.hidden_size) * (4 if policy.autocast is None else 2),
        recomputed=recomputes(policy.model),
    )


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, of those that share a storage once."""
    return sum(dict(_storage(tensor) for tensor in tensors).values())


def _saved(policy: Policy, size: int) -> int:
    """Return the bytes that autograd keeps of a pass over one row besides the weights."""
    own, kept = _places(policy.model), dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        place, n_bytes = _storage(tensor)
        # Weights that are cut over processes are elsewhere while they are whole.
        if place not in (own if policy.sharded is None else _places(policy.model)):
            kept[place] = n_bytes
        return tensor

    ids = torch.zeros((1, size), dtype=torch.int64, device=policy.model.device)

    def hidden(model: Any) -> Tensor:
        return head_inputs(model, OutputHead.of(model), ids, None, None)

    with (
        _without_checkpointing(policy.model),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        policy.computing(),
    ):
        found = policy.read(hidden)  # held: no storage is used twice
    del found
    if policy.sharded is not None:
        policy.sharded.cut()
    return sum(kept.values())


@contextmanager
def _without_checkpointing(model: Any) -> Iterator[None]:
    """Run layers as if their activations were kept, which `training` of a layer decides."""
    layers = [module for module in model.modules() if module.training]
    for module in layers:
        module.training = False
    try:
        yield
    finally:
        for module in layers:
            module.training = True


def _places(model: Any) -> set[int]:
    return {_storage(part)[0] for part in [*model.parameters(), *model.buffers()]}


def _storage(tensor: Tensor) -> tuple[int, int]:
    """Return where a tensor is, and its bytes; of one that is cut, those of all its parts."""
    if isinstance(tensor, DTensor):
        return id(tensor), tensor.nbytes
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()
