"""Groups that were sampled ahead of training, in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gspo_rs.rollouts.arrays import arrays_of, rollouts_of
from gspo_rs.rollouts.rollouts import Rollouts, joined
from gspo_rs.train.world import World

__all__ = ["InFlight", "gathered", "restored"]

_BEFORE = "ahead/"


@dataclass(frozen=True)
class InFlight:
    """What has been begun and is not trained on, of all processes.

    Attributes
    ----------
    ranks : list of dict of str to Tensor
        From `gathered`, of each process that there was.
    """

    ranks: list[dict[str, Tensor]]

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as ``ahead/<rank>/...``, for a checkpoint."""
        return {
            f"{_BEFORE}{rank}/{name}": tensor
            for rank, tensors in enumerate(self.ranks)
            for name, tensor in tensors.items()
        }

    def states(self) -> list[dict[str, Any]]:
        """Return the state of the visits of each process, as `Ahead.state` gave it."""
        return [_rest(tensors)[0] for tensors in self.ranks]

    def sampled(self) -> dict[int, Rollouts]:
        """Return the groups that wait to be trained on, by the place of their visit."""
        found: dict[int, Rollouts] = {}
        for tensors in self.ranks:
            if places := _rest(tensors)[1]:
                whole = rollouts_of({name: tensor.numpy() for name, tensor in tensors.items()})
                found |= {place: whole.select([group]) for group, place in enumerate(places)}
        return found


def gathered(state: Mapping[str, Any], sampled: Mapping[int, Rollouts], world: World) -> InFlight:
    """Return what all processes have in flight; all have to ask.

    Parameters
    ----------
    state, sampled
        From `gspo_rs.train.rollout.ahead.Ahead.state`, of this process.
    world : World
        The processes.
    """
    rest = json.dumps([state, list(sampled)]).encode()
    arrays = {"rest": np.frombuffer(rest, dtype=np.uint8)}
    if sampled:
        arrays |= arrays_of(joined(list(sampled.values())))
    return InFlight(
        world.gathered({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    )


def restored(tensors: Mapping[str, Tensor]) -> InFlight | None:
    """Find what was in flight among the tensors of a checkpoint; None if nothing was."""
    ranks: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_BEFORE):
            rank, _, short = name.removeprefix(_BEFORE).partition("/")
            ranks.setdefault(int(rank), {})[short] = tensor
    return InFlight([ranks[rank] for rank in sorted(ranks)]) if ranks else None


def _rest(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    state, places = json.loads(tensors["rest"].numpy().tobytes())
    return state, places
