"""How much memory a run takes: what is kept, what a batch of rollouts and a micro-batch add.

Letters: ``R`` rows and ``S`` columns of a micro-batch, ``n`` sampled tokens of it, ``D`` hidden
size, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from gspo_rs.logprobs.chunk import chunk_bytes, default_chunk_size
from gspo_rs.logprobs.model_head import OutputHead
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.samplers.address import parsed
from gspo_rs.samplers.generation import empty_cache, generating, sampled_from
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.microbatch import MicroBatch
from gspo_rs.train.model.narrow import narrow_bytes
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.pass_memory import pass_memory, tensor_bytes
from gspo_rs.train.step.adamw_8bit import state_bytes
from gspo_rs.train.step.training_batch import TrainingBatch, batches

__all__ = [
    "Memory",
    "cache_bytes",
    "expected_pass",
    "gathered_bytes",
    "head_bytes",
    "largest_pass",
    "measured",
    "samples_here",
]

MASTER = 12
"""Bytes a number while a bfloat16 weight takes its step in float32."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device, by what they are for.

    Attributes
    ----------
    weights, reference, optimizer : int
        Kept during the whole run; the reference is 0 without one.
    gradients : int
        Of all that is trained, while a step is taken.
    cache : int
        Keys and values of what is sampled at once, all completions of full length.
    copy : int
        Of the weights in half the bytes, while they sample on a GPU; of several processes, of the
        weights of the others.
    activations : int
        What the largest micro-batch keeps for its backward pass.
    logits : int
        Of the tokens whose logits are there at once, and the sums of the head's gradient.
    step : int
        What the optimizer adds to move the largest weight.
    gathered : int
        Of several processes, weights of the others and their gradients that a pass has at once.
    ahead : int
        The copy of weights that samples while a step is taken; 0 without `max_staleness`.
    """

    weights: int
    reference: int
    gradients: int
    optimizer: int
    cache: int
    activations: int
    logits: int
    step: int = 0
    copy: int = 0
    gathered: int = 0
    ahead: int = 0

    @property
    def total(self) -> int:
        """About the most that is there at once: unless ahead, steps and sampling take turns."""
        passing = self.activations + self.logits + self.gathered
        learning = self.gradients + max(passing, self.step)
        sampling = self.cache + self.copy
        return self.kept + (sampling + learning if self.ahead else max(sampling, learning))

    @property
    def kept(self) -> int:
        """What is there during the whole run, once a step has been taken."""
        return self.weights + self.reference + self.optimizer + self.ahead


def measured(
    policy: Policy, config: Config, *, reference: bool, cache: int, largest: MicroBatch | None
) -> Memory:
    """Return the memory of a run with a policy.

    Parameters
    ----------
    policy : Policy
        Loaded, without gradients; of several processes each has an equal part of a replica. It
        reads a few tokens, for which all of them have to ask.
    config : Config
        Tells the optimizer.
    reference : bool
        Whether a copy of the model is kept.
    cache : int
        From `cache_bytes`.
    largest : MicroBatch or None
        From `largest_pass` or `expected_pass`; None if there is nothing to train on.

    Returns
    -------
    Memory
    """
    trained, n = list(policy.trainable().values()), policy.world.size // config.replicas
    weights = tensor_bytes([*policy.model.parameters(), *policy.model.buffers()]) // n
    ahead = _ahead_bytes(policy, config)
    narrows = samples_here(config) and policy.sampling_dtype is not None and not ahead
    return Memory(
        weights=weights,
        reference=weights if reference else 0,
        gradients=tensor_bytes(trained) // n,
        optimizer=sum(_state_bytes(part, config) for part in trained) // n,
        cache=cache,
        activations=0 if largest is None else pass_memory(policy).of(*largest.input_ids.shape),
        logits=0 if largest is None else head_bytes(policy, len(largest.targets)),
        step=max((MASTER * p.numel() for p in trained if p.dtype == torch.bfloat16), default=0),
        copy=narrow_bytes(policy.model) if narrows else gathered_bytes(policy, every=True),
        gathered=gathered_bytes(policy),
        ahead=ahead,
    )


def _ahead_bytes(policy: Policy, config: Config) -> int:
    """Return what transformers samples ahead with: what is trained, or all where it is cut."""
    if not config.max_staleness or config.sampler != "transformers":
        return 0
    if policy.sampling_dtype is not None:
        return narrow_bytes(policy.model)
    whole = policy.world.size > 1
    return tensor_bytes(policy.model.parameters() if whole else policy.trainable().values())


def cache_bytes(policy: Policy, rows: int, length: int) -> int:
    """Return what the keys and values of some sequences of one length take; 0 without a cache.

    Parameters
    ----------
    policy : Policy
        Its model reads a few tokens.
    rows, length : int
        Sequences, and tokens of each.

    Raises
    ------
    GenerationError
        If the model fails with a cache.
    """
    few = torch.zeros((1, 2), dtype=torch.int64, device=policy.model.device)

    def remembered(model: Any) -> Any:
        with generating(model) as base, sampled_from(base):
            found = base(few, use_cache=True, **empty_cache(base))
        return getattr(found, "past_key_values", None)

    layers = getattr(policy.sampling(remembered), "layers", [])
    held = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return tensor_bytes(part for part in held if part is not None) // few.numel() * rows * length


def samples_here(config: Config) -> bool:
    """Return whether completions are drawn on the device of the policy: not by a server."""
    return config.online and parsed(config.sampler).kind == "transformers"


def largest_pass(batches: Iterable[MicroBatch]) -> MicroBatch | None:
    """Return the micro-batch of the most tokens, padding included."""
    return max(batches, key=lambda batch: batch.input_ids.numel(), default=None)


def expected_pass(policy: Policy, config: Config, prompt: int) -> MicroBatch:
    """Return the largest micro-batch of a step whose completions all have the full length.

    Parameters
    ----------
    policy : Policy
        Tells device, layout and context.
    config : Config
        Tells sizes and the token budget.
    prompt : int
        Tokens of each prompt.
    """
    room = prompt + config.max_completion_length
    length = min(room, policy.context or room)
    completion = max(min(config.max_completion_length, length - 1), 1)
    n = config.prompts_per_step * config.num_generations
    prompts, completions = (
        Ragged(np.zeros(n * size, np.int64), np.full(n, size))
        for size in (max(length - completion, 1), completion)
    )
    nothing = torch.zeros(n)
    largest = largest_pass(
        batches(policy, TrainingBatch(prompts, completions, nothing, nothing), config)
    )
    assert largest is not None
    return largest


def _state_bytes(parameter: Tensor, config: Config) -> int:
    """Return what the optimizer keeps of a parameter: two moments, and the rest of a bfloat16."""
    n = parameter.numel()
    rest = 2 * n if parameter.dtype == torch.bfloat16 else 0
    return rest + (8 * n if config.optimizer == "adamw" else state_bytes(n))


def gathered_bytes(policy: Policy, *, every: bool = False) -> int:
    """Return what a process has of the weights of all others at once; 0 if it is alone.

    Parameters
    ----------
    policy : Policy
    every : bool
        All of them, as while it samples, without gradients; otherwise those of two layers, of
        which one is fetched early, and of what is in no layer, with gradients in float32.
    """
    if policy.world.size == 1:
        return 0
    each: int = 4 if policy.autocast is None else policy.autocast.itemsize
    numbers: int = sum(p.numel() for p in policy.model.parameters())
    if every:
        return each * numbers
    layers: list[int] = [
        sum(p.numel() for p in layer.parameters())
        for layer in policy.model.modules()
        if isinstance(layer, GradientCheckpointingLayer)
    ]
    largest, others = max(layers, default=0), numbers - sum(layers)
    return each * (2 * largest + others) + 4 * (largest + others)


def head_bytes(policy: Policy, n: int) -> int:
    """Return what the head takes of `n` tokens: logits and entropies, and its gradient's sums."""
    head, device = OutputHead.of(policy.model), policy.device
    dtype = policy.autocast or torch.float32
    # On a GPU a chunk is as long as the longest sequence, which may be all of them.
    most = default_chunk_size(head.vocabulary) if device.type == "cpu" else n
    logits = chunk_bytes(min(n, policy.chunk_size or most), head.vocabulary, device, dtype)
    if device.type == "cpu":
        logits *= 2
    weight = getattr(head.module, "weight", None)
    if weight is None:
        return logits
    # On a GPU they are multiplied by the gradient upstream before they are rounded.
    each = 4 if device.type == "cpu" else 8
    sums = each * weight.numel() if weight.requires_grad else 0
    narrow = device.type == "cpu" and policy.autocast is not None
    return logits + sums + (4 * weight.numel() if narrow else 0)
