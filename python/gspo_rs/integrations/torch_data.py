"""Scored files as a data set of `torch.utils.data`: whole groups, shared out, resumable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from gspo_rs.data.group_index import read_keys
from gspo_rs.data.group_stream import stream_groups
from gspo_rs.data.schema import GroupBatch, as_keys
from gspo_rs.data.source import ANYTHING, Source, SourceLike
from gspo_rs.files.resolve import resolve_source
from gspo_rs.groups.groups import Groups
from gspo_rs.integrations.tensors import as_tensor

__all__ = ["GroupDataset"]

# Workers that one loader may have: each finds in its own slot of shared memory where to begin.
SLOTS = 1024


class GroupDataset(IterableDataset[dict[str, Any]]):
    """Batches of whole groups out of scored files, for a `torch.utils.data.DataLoader`.

    Each group comes once an epoch, with all its rows, to one worker of one rank. Give the loader
    ``batch_size=None``, because an item is a batch already.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Files with one completion a row, the folder that `gspo_rs.score` wrote, or a selection
        file of `gspo_rs.files.selection`. The rows of a group may lie anywhere.
    by : str or sequence of str
        The columns that name the group of a row.
    columns : sequence of str, optional
        What an item holds; by default all columns.
    reward : str
        Column of the rewards, checked when the groups are counted.
    batch_groups : int
        Groups per item; the last item of a worker's share may hold fewer.
    shuffle : bool
        Whether groups come in a random order, which `seed` and the epoch give; otherwise in that
        of their first rows.
    seed : int
        For `shuffle`; the same on all ranks.
    rank, world_size : int, optional
        Which process this is, of how many; by default as `torch.distributed` says, or 0 of 1.
    spill_directory : path, optional
        Where rows that are scattered or shuffled are put in order; see `gspo_rs.data.rollouts`.

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.data.index_groups`; or if `rank` is not below `world_size`.

    Notes
    -----
    An item is a dict: ``offsets``, an int64 tensor of shape (n_groups + 1,), and one entry per
    column of n rows, group after group: a tensor of the column's own type for numbers and bools
    (null is NaN among floats, and refused among integers), a list for anything else.

    Rank r of R has the r-th of R even runs of the order of the epoch, and its workers have runs
    of that. The items of ranks differ in number by one at most, which a loop that waits for
    all ranks has to expect. Rows that lie group after group are read by the worker that needs
    them alone; scattered or shuffled rows are read by each worker, which sorts its own on disk.
    Memory is that of `gspo_rs.data.rollouts`, per worker.

    Polars hangs in a forked process, so a loader with workers needs
    ``multiprocessing_context="forkserver"`` or ``"spawn"``.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"id": ["a", "b", "a"], "reward": [0.0, 1.0, 1.0]})
    >>> dataset = GroupDataset(frame, by="id", batch_groups=1)
    >>> [item["reward"].tolist() for item in dataset]
    [[0.0, 1.0], [1.0]]
    >>> items = iter(dataset)
    >>> next(items)["id"]
    ['a', 'a']
    >>> dataset.load_state_dict(dataset.state_dict())
    >>> [item["id"] for item in dataset]
    [['b']]
    """

    def __init__(
        self,
        source: SourceLike,
        *,
        by: str | Sequence[str],
        columns: Sequence[str] | None = None,
        reward: str = "reward",
        batch_groups: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        spill_directory: str | Path | None = None,
    ) -> None:
        self._source = source
        self._keys = as_keys(by)
        self._reward = reward
        self._rank, self._world_size = _place(rank, world_size)
        self._order = {"batch_groups": batch_groups, "shuffle": shuffle, "seed": seed}
        self._directory = spill_directory
        self._process = os.getpid()
        self._read: tuple[Source, Groups] | None = None
        located, groups = self._opened()
        schema = located.check([(name, ANYTHING) for name in columns or ()])
        self._columns = list(schema if columns is None else columns)
        if "offsets" in self._columns:
            raise ValueError(f"{located.name} has a column 'offsets', as an item has; rename it")
        if batch_groups < 1:
            raise ValueError(f"batch_groups is {batch_groups}; it must be at least 1")
        self._size = {"n_rollouts": groups.n_rollouts, "n_groups": groups.n_groups}
        self._next = 0
        # Shared with the workers, those that live for several epochs among them. A loader takes
        # an item of each worker in turn, so that they begin one item apart.
        self._epoch, self._workers, self._saved_workers = _shared(0), _shared(0), _shared(1)
        self._starts = _shared(range(SLOTS))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is; another than before begins at its first item."""
        if epoch != int(self._epoch):
            self._epoch.fill_(epoch)
            self._starts.copy_(torch.arange(SLOTS))
            self._next = 0

    def state_dict(self, taken: int | None = None) -> dict[str, int]:
        """Return where this rank is: plain numbers, which JSON can hold.

        Parameters
        ----------
        taken : int, optional
            How many items of the epoch this rank's loop has taken. Needed beside a plain loader
            with workers, which read ahead of the loop; otherwise known.

        Returns
        -------
        dict of str to int

        Raises
        ------
        ValueError
            If `taken` is needed and missing, or is more than there are.
        """
        workers = int(self._workers)
        if taken is None and workers and get_worker_info() is None:
            problem = f"{workers} workers read ahead; say how many items the loop has taken"
            raise ValueError(f"{problem}: state_dict(taken=…)")
        if taken is not None and not 0 <= taken <= len(self):
            raise ValueError(f"taken is {taken}; an epoch of this rank has {len(self)} items")
        item = self._next if taken is None else taken
        place = {"epoch": int(self._epoch), "item": item}
        place["workers"] = workers or int(self._saved_workers)
        return {**place, "world_size": self._world_size, **self._order, **self._size}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on where `state` was taken; the one after it is whole.

        Call it before the loader's iterator is made.

        Raises
        ------
        ValueError
            If the state is of another order or number of groups or ranks; names the first
            difference. The pass raises if the number of workers is another.
        """
        has = {"world_size": self._world_size, **self._order, **self._size}
        for name, value in has.items():
            if state[name] != value:
                problem = f"the state has {name}={state[name]}, this data set {value}"
                raise ValueError(f"{problem}; groups would be lost or come twice")
        info = get_worker_info()
        self._epoch.fill_(state["epoch"])
        self._saved_workers.fill_(state["workers"])
        self._workers.zero_()
        self._next = state["item"]
        if info is None:
            self._starts.copy_(torch.arange(SLOTS) + state["item"])
        else:
            self._starts[info.id] = state["item"]

    def __len__(self) -> int:
        """Count the items of this rank in an epoch."""
        share = _run(self._size["n_groups"], self._rank, self._world_size)
        return -(-len(share) // self._order["batch_groups"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        first = int(self._starts[worker])
        self._starts[worker::workers] = torch.arange(SLOTS)[worker::workers]
        if first != worker and workers != int(self._saved_workers):
            problem = f"the state is of {int(self._saved_workers)} workers, the loader has"
            raise ValueError(f"{problem} {workers}; go on with as many, or from a new epoch")
        if info is None:
            self._saved_workers.fill_(1)
        self._workers.fill_(0 if info is None else workers)
        self._next = first
        return self._items(first, workers)

    def _items(self, first: int, workers: int) -> Iterator[dict[str, Any]]:
        """Yield the items ``first, first + workers, …`` of the rank; their groups lie in a run."""
        located, groups = self._opened()
        rows = located.as_written() or located
        for cut in self._cuts(rows, groups, first, workers):
            names = enumerate(self._columns)
            item = {name: as_tensor(cut, f"value{i}", name, rows) for i, name in names}
            self._next += workers
            yield {"offsets": torch.tensor(cut.offsets), **item}

    def _cuts(self, rows: Source, groups: Groups, first: int, workers: int) -> Iterator[GroupBatch]:
        step, n_groups = self._order["batch_groups"], self._size["n_groups"]
        rank = _run(n_groups, self._rank, self._world_size)
        items = _run(len(self), first % workers, workers)[first // workers :]
        if not items:
            return iter(())
        wanted = rank[items.start * step : items.stop * step]
        found = (groups.n_rollouts, groups.n_groups)
        rows.refuse_change("number of groups", tuple(self._size.values()), found)
        epoch = np.random.default_rng([self._order["seed"], int(self._epoch)])
        keys = [rows.column(key).alias(f"key{i}") for i, key in enumerate(self._keys)]
        values = [rows.column(name).alias(f"value{i}") for i, name in enumerate(self._columns)]
        return stream_groups(
            rows,
            [*keys, *values],
            groups,
            wanted,
            batch_groups=step,
            order=epoch.permutation(n_groups) if self._order["shuffle"] else None,
            directory=self._directory,
        )

    def _opened(self) -> tuple[Source, Groups]:
        """Return the source and its groups, read once per process."""
        if os.getpid() != self._process:
            remedy = 'use DataLoader(multiprocessing_context="forkserver")'
            raise RuntimeError(f"Polars, which reads files, hangs in a forked process; {remedy}")
        if self._read is None:
            located = resolve_source(self._source)
            groups = read_keys(located, self._keys, self._reward).groups
            self._read = located, groups
        return self._read

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process = os.getpid()


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return the rank and the number of ranks, checked."""
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank is {rank} and world_size {world_size}; give both or neither")
    if rank is None or world_size is None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return 0, 1
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}; it must lie in 0 … world_size - 1 = {world_size - 1}")
    return rank, world_size


def _shared(values: int | range) -> torch.Tensor:
    """Return integers in memory that worker processes share."""
    tensor = torch.tensor(values)
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def _run(n: int, part: int, parts: int) -> range:
    """Return one of `parts` runs of ``range(n)``; the first ones may be longer by one."""
    size, more = divmod(n, parts)
    start = part * size + min(part, more)
    return range(start, start + size + (part < more))
