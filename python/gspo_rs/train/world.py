"""The processes of one run: who is who, shares of work, and what each gathers from the others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from gspo_rs.train import torchrun
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.torchrun import WorldError

__all__ = ["ALONE", "World", "WorldError", "joined", "refuse_in_world"]

# What torch says of a collective whose other end is gone, or too late.
_LOST = re.compile(r"gloo|nccl|Connection (closed|reset)|[Tt]imed out|process group", re.IGNORECASE)


@dataclass(frozen=True)
class World:
    """The processes that train one policy together; one, by default.

    Wide work, such as completions to sample, is done in shares; its narrow results, such as tokens
    and log-probabilities, are gathered, so that what follows is the same on every rank.

    Attributes
    ----------
    rank : int
        Which of them this is.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """Return which of `n` things are this process's: the ranks' shares follow one another.

        Examples
        --------
        >>> [World(rank, 3).share(7) for rank in range(3)]
        [range(0, 2), range(2, 4), range(4, 7)]
        """
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def dealt(
        self, parts: Sequence[NDArray[np.int64]], costs: Sequence[int]
    ) -> list[tuple[NDArray[np.int64], bool]]:
        """Return this process's parts of a step, as many as every other's gets.

        Parameters
        ----------
        parts : sequence of ndarray
            The same on every rank.
        costs : sequence of int
            How long each takes; the most expensive are dealt out first.

        Returns
        -------
        list of (ndarray, bool)
            A part, and whether it counts: where there are not enough, some get the cheapest once
            more, for the collectives of its pass alone.

        Examples
        --------
        >>> parts = [np.array([0]), np.array([1, 2]), np.array([3])]
        >>> World(0, 2).dealt(parts, costs=[1, 9, 3])
        [(array([1, 2]), True), (array([0]), False)]
        >>> World(1, 2).dealt(parts, costs=[1, 9, 3])
        [(array([3]), True), (array([0]), True)]
        """
        if self.size == 1:
            return [(part, True) for part in parts]
        order = sorted(range(len(parts)), key=lambda place: -costs[place])
        filled = -len(order) % self.size
        turns = [(parts[place], True) for place in order]
        turns += [(parts[order[-1]], False)] * filled if order else []
        rounds = [turns[first : first + self.size] for first in range(0, len(turns), self.size)]
        # Back and forth, so that no rank gets the most expensive of every round.
        return [turn[:: -1 if back % 2 else 1][self.rank] for back, turn in enumerate(rounds)]

    def gathered(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the named tensors of every rank, on the CPU; a rank may have others than the next.

        They travel as the bytes of a safetensors file: nothing is pickled.
        """
        if self.size == 1:
            return [dict(tensors)]
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        own = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(own)]))
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        every = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(every, padded)
        return [
            load(part[: int(size)].numpy().tobytes())
            for part, size in zip(every, sizes, strict=True)
        ]

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks, detached."""
        if self.size == 1:
            return value
        whole = value.detach().clone()
        dist.all_reduce(whole)
        return whole

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set on any rank."""
        return bool(self.total(torch.tensor(int(flag))))

    def agree(self, **facts: str) -> None:
        """Check that every rank has the same facts.

        Raises
        ------
        WorldError
            On all ranks; names the first rank whose fact is another than that of rank 0.
        """
        if self.size == 1:
            return
        own = {name: torch.tensor(list(fact.encode())) for name, fact in facts.items()}
        first, *others = self.gathered(own)
        for rank, other in enumerate(others, start=1):
            for name, value in first.items():
                if not torch.equal(value, other[name]):
                    raise WorldError(
                        f"rank {rank} has {name} other than rank 0; give all processes the same"
                        " run file and files"
                    )

    def once(self, work: Callable[[], object]) -> None:
        """Do something in the main process, while the others wait for it."""
        if self.main:
            work()
        self.barrier()

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.any(False)


ALONE = World()


def refuse_in_world(config: Config, size: int) -> None:
    """Stop where a run cannot be taken by `size` processes.

    Raises
    ------
    ConfigError
        With the remedy.
    """
    if size % config.replicas:
        raise ConfigError(
            f"replicas = {config.replicas}: is no divisor of the number of processes, {size}; give"
            " one that is, or start others"
        )
    if size == 1:
        return
    n_prompts = config.prompts_per_step * config.steps_per_generation
    if config.online and n_prompts < size:
        raise ConfigError(
            f"prompts_per_step = {config.prompts_per_step}: a batch of {n_prompts} prompts is"
            f" fewer than the {size} processes that share it; raise it, or start fewer"
        )
    for key, served in (("weights", "float32"), ("optimizer", "adamw")):
        if (given := getattr(config, key)) != served:
            raise ConfigError(
                f"{key} = {given!r}: its state is not cut over {size} processes yet; use"
                f" {served!r}, of which each has one part in {size}"
            )


@contextmanager
def joined(timeout: float) -> Iterator[World]:
    """Come together with the other processes that torchrun has started, if it has.

    Parameters
    ----------
    timeout : float
        Seconds to wait for the others, here and in every later step.

    Yields
    ------
    World
        Of this process alone without ``WORLD_SIZE``.

    Raises
    ------
    WorldError
        If a variable of torchrun is missing, or not all processes come in time.
    """
    size = torchrun.size()
    if size == 1 or dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise WorldError(
            f"WORLD_SIZE = {size} without {', '.join(missing)}: start the run by torchrun"
            " --nproc-per-node N --no-python gspo-rs train …, or unset WORLD_SIZE"
        )
    rank = int(os.environ["RANK"])
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        raise WorldError(
            f"rank {rank} of {size}: not all processes came within {timeout:g} s: {error}"
        ) from error
    try:
        yield World(rank, size)
    except RuntimeError as error:
        if isinstance(error, WorldError) or not _LOST.search(str(error)):
            raise
        raise WorldError(
            f"rank {rank} of {size}: another process ended, or did not answer within"
            f" {timeout:g} s; its own error says why"
        ) from error
    finally:
        dist.destroy_process_group()
