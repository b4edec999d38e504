"""How much memory a run takes: what is kept, what a batch of rollouts and a micro-batch add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gspo_rs.logprobs.chunk import default_chunk_size
from gspo_rs.logprobs.model_head import OutputHead
from gspo_rs.samplers.generation import generating
from gspo_rs.train.model.microbatch import MicroBatch
from gspo_rs.train.model.policy import Policy

__all__ = ["Memory", "cache_bytes", "largest_pass", "measured"]


@dataclass(frozen=True)
class Memory:
    """Bytes on the device, by what they are for.

    Attributes
    ----------
    weights, reference, gradients, optimizer : int
        Kept during the whole run; the reference is 0 without one.
    cache : int
        Keys and values of what is sampled at once, all completions of full length.
    activations : int
        What the largest micro-batch keeps for its backward pass.
    logits : int
        Of the tokens whose logits are there at once.
    """

    weights: int
    reference: int
    gradients: int
    optimizer: int
    cache: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """About the most that is there at once: nothing is sampled while a step is taken."""
        kept = self.weights + self.reference + self.gradients + self.optimizer
        return kept + max(self.cache, self.activations + self.logits)


def measured(
    policy: Policy, *, reference: bool, cache: int, largest: MicroBatch | None, checkpointing: bool
) -> Memory:
    """Return the memory of a run with a policy.

    Parameters
    ----------
    policy : Policy
        Loaded, without gradients.
    reference : bool
        Whether a copy of the model is kept.
    cache : int
        From `cache_bytes`.
    largest : MicroBatch or None
        From `largest_pass`; None if there is nothing to train on.
    checkpointing : bool
        Whether the activations of layers are computed again.

    Returns
    -------
    Memory
        Of AdamW, which keeps two numbers for each that is trained.
    """
    weights = _bytes([*policy.model.parameters(), *policy.model.buffers()])
    trained = _bytes(policy.trainable().values())
    vocabulary = OutputHead.of(policy.model).vocabulary
    activations = logits = 0
    if largest is not None:
        activations = _saved(policy, largest, checkpointing=checkpointing)
        rows = min(len(largest.targets), default_chunk_size(vocabulary))
        logits = rows * vocabulary * 4
    return Memory(
        weights=weights,
        reference=weights if reference else 0,
        gradients=trained,
        optimizer=2 * trained,
        cache=cache,
        activations=activations,
        logits=logits,
    )


def cache_bytes(policy: Policy, rows: int, length: int) -> int:
    """Return what the keys and values of some sequences of one length take; 0 without a cache.

    Parameters
    ----------
    policy : Policy
        Its model reads a few tokens.
    rows, length : int
        Sequences, and tokens of each.
    """
    few = torch.zeros((1, 2), dtype=torch.int64, device=policy.device)
    with generating(policy.model) as base, policy.computing():
        cache = getattr(base(few, use_cache=True), "past_key_values", None)
    layers = getattr(cache, "layers", [])
    held = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return _bytes(part for part in held if part is not None) // few.numel() * rows * length


def largest_pass(batches: Iterable[MicroBatch]) -> MicroBatch | None:
    """Return the micro-batch of the most tokens, padding included."""
    return max(batches, key=lambda batch: batch.input_ids.numel(), default=None)


def _saved(policy: Policy, batch: MicroBatch, *, checkpointing: bool) -> int:
    """Return the bytes that autograd keeps of a forward pass besides the weights."""
    own = {_storage(part)[0] for part in [*policy.model.parameters(), *policy.model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        place, size = _storage(tensor)
        if place not in own:
            kept[place] = size
        return tensor

    with (
        _without_checkpointing(policy.model),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        found = policy.logprobs_and_entropy(batch)  # held, so that no storage is used twice
    del found
    everything = sum(kept.values())
    if not checkpointing:
        return everything
    config = policy.model.config.get_text_config()
    inputs = batch.input_ids.numel() * int(config.hidden_size) * 4
    layers = int(config.num_hidden_layers)
    return everything // layers + layers * inputs


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


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(dict(_storage(tensor) for tensor in tensors).values())


def _storage(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()
