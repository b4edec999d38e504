"""What a GPU has room for: tokens of a micro-batch, kept activations, rows sampled at once."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import torch

from gspo_rs.train import estimate
from gspo_rs.train.config.config import Config
from gspo_rs.train.memory import Memory, cache_bytes, head_bytes, measured, samples_here
from gspo_rs.train.model.layers import ActivationsError, recompute_activations, recomputes
from gspo_rs.train.model.policy import Policy, fits_itself
from gspo_rs.train.pass_memory import PassMemory, pass_memory
from gspo_rs.train.world import World

__all__ = ["Room", "begun", "fitted", "free_bytes", "micro_batch", "rows_within"]

_log = logging.getLogger("gspo_rs")
USED = 0.9
"""Share of what is free that a run is planned to take: blocks of freed memory don't fit all."""
MOST, ENOUGH = 16_384, 4096
"""Tokens of a micro-batch: more are no faster, and fewer are worth computing activations twice."""


@dataclass(frozen=True)
class Room:
    """Bytes of a GPU that a run may take beside the weights that are loaded.

    Attributes
    ----------
    learning : float
        For activations and logits of a micro-batch, beside gradients and optimizer.
    sampling : float
        For keys and values, beside the optimizer and a copy of the weights.
    """

    learning: float
    sampling: float

    @classmethod
    def of(cls, free: int, memory: Memory) -> Room:
        """Return what is left of `free` bytes, while a run learns and while it samples.

        Examples
        --------
        >>> memory = Memory(
        ...     weights=40,
        ...     reference=0,
        ...     optimizer=20,
        ...     gradients=10,
        ...     cache=0,
        ...     activations=0,
        ...     logits=0,
        ...     copy=5,
        ... )
        >>> Room.of(100, memory)
        Room(learning=60.0, sampling=65.0)
        """
        room = USED * free - memory.optimizer - memory.ahead
        learning = room - memory.gradients - memory.gathered
        if memory.ahead:  # both at once
            return cls(learning / 2, learning / 2)
        return cls(learning, room - memory.copy)


def micro_batch(room: float, kept: PassMemory, columns: int, config: Config) -> tuple[int, bool]:
    """Choose the tokens of a micro-batch, and whether activations are recomputed.

    Parameters
    ----------
    room : float
        Bytes for its activations.
    kept : PassMemory
        Of the model, as it is without recomputing.
    columns : int
        Tokens of the longest sequence, which are one micro-batch at least.
    config : Config
        What it says stays.

    Returns
    -------
    tokens : int
        Up to `MOST`.
    recompute : bool
        On where fewer than `ENOUGH` tokens fit without.
    """
    asked = config.micro_batch_tokens
    again = config.gradient_checkpointing
    if again is None:
        again = kept.tokens_within(room, columns) < max(asked or ENOUGH, columns)
    most = (kept.recomputing() if again else kept).tokens_within(room, columns)
    return asked or max(min(most, MOST), columns), again


def rows_within(room: float, row: int, rows: int) -> int | None:
    """Return how many rows are sampled at once; None if it is all of them.

    Parameters
    ----------
    room : float
        Bytes for keys and values.
    row : int
        Those of a sequence of full length.
    rows : int
        Of a batch of rollouts.

    Examples
    --------
    >>> rows_within(1000, row=100, rows=8), rows_within(1000, row=100, rows=32)
    (None, 10)
    >>> rows_within(50, row=100, rows=32)
    1
    """
    most = max(int(room / max(row, 1)), 1)
    return None if most >= rows else most


def free_bytes(device: torch.device) -> int | None:
    """Return the memory of a GPU that nobody holds, or this process has freed; None on a CPU."""
    if device.type != "cuda":
        return None
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + cached


def begun(
    policy: Policy, config: Config, source: object, *, reference: bool, shown: bool
) -> tuple[Config, str]:
    """Return the configuration with what memory decides, and the line that a run begins with.

    Parameters
    ----------
    policy, config, source
        As for `fitted`.
    reference : bool
        Whether a second model has been loaded.
    shown : bool
        Whether the line is wanted; it is empty where no process wants it.
    """
    chosen = fitted(policy, config, source, free=free_bytes(policy.device))
    if not policy.world.any(shown):  # all pass through the model for it, or none
        return chosen, ""
    line = estimate.line(policy, chosen, source, reference=reference)
    if chosen is config:
        return config, line
    names = {
        "micro_batch_tokens": chosen.micro_batch_tokens,
        "gradient_checkpointing": str(recomputes(policy.model)).lower(),
        "generation_batch": chosen.generation_batch,
    }
    left = [f"{k} = {v}" for k, v in names.items() if v is not None and getattr(config, k) is None]
    return chosen, f"{line}; chosen: {', '.join(left)}" if left else line


def fitted(policy: Policy, config: Config, source: object, *, free: int | None) -> Config:
    """Fill in what the user has left open and memory decides, on a GPU; on a CPU nothing.

    Parameters
    ----------
    policy : Policy
        Loaded, and cut over its processes, all of which ask, before the first step. Its layers may
        be made to recompute their activations.
    config : Config
        Of the run.
    source : Prompts or GroupIndex
        What is learned from.
    free : int or None
        From `free_bytes`, after all models have been loaded.

    Returns
    -------
    Config
        With `micro_batch_tokens`, and with `generation_batch` where not all rows are sampled at
        once. What the user has said stays. Several processes decide alike, by what the one with
        the least memory has room for.
    """
    if free is None:
        return config
    columns, rows = estimate.columns(policy, config, source), estimate.rows(config)
    memory = measured(policy, config, reference=False, cache=0, largest=None)
    if policy.world.size > 1:
        free = _least(free, policy.world)
        rows = -(-rows // policy.world.size)
    room, kept = Room.of(free, memory), pass_memory(policy)
    left = room.learning - head_bytes(policy, config.micro_batch_tokens or MOST)
    tokens, again = micro_batch(left, kept, columns, config)
    if again and fits_itself(config, policy.device):
        tokens = _recomputed(policy, left, kept, columns, tokens)
    at_once = config.generation_batch
    if samples_here(config) and at_once is None:
        at_once = rows_within(room.sampling, cache_bytes(policy, 1, columns), rows)
    return dataclasses.replace(config, micro_batch_tokens=tokens, generation_batch=at_once)


def _least(free: int, world: World) -> int:
    """Return the bytes that are free where they are fewest."""
    every = world.gathered({"free": torch.tensor(free)})
    return min(int(rank["free"]) for rank in every)


def _recomputed(policy: Policy, room: float, kept: PassMemory, columns: int, tokens: int) -> int:
    """Let the layers recompute their activations; return the tokens that fit where they can't."""
    try:
        recompute_activations(policy.model, policy.read)
    except ActivationsError as error:
        _log.info("%s; its activations are kept", error)
        return max(min(kept.tokens_within(room, columns), tokens), columns)
    return tokens
