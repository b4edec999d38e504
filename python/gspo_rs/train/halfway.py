"""Rollouts in a checkpoint: a partly trained batch, and groups that are kept for the next one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.rollouts.arrays import arrays_of, flat, rollouts_of, taken
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.step.minibatch import Minibatch
from gspo_rs.train.step.training_batch import TrainingBatch

_LOGPROBS = ("old_logprobs", "ref_logprobs", "sampler_logprobs")


@dataclass(frozen=True)
class Halfway:
    """A batch of rollouts some of whose optimizer steps are done.

    Attributes
    ----------
    rollout_batch : RolloutBatch
        The batch.
    cuts : list of Minibatch
        One per optimizer step of a pass over the batch.
    training_batches : list of TrainingBatch
        The same, with log-probabilities that were taken before the first of the steps.
    done : int
        Optimizer steps taken.
    dropped : int
        Prompts that were too long, those of batches left out before this one included.
    left_out : list of int
        Visits to prompts that are over without having been trained on, for the ledger.
    """

    rollout_batch: RolloutBatch
    cuts: list[Minibatch]
    training_batches: list[TrainingBatch]
    done: int = 0
    dropped: int = 0
    left_out: list[int] = field(default_factory=list)

    def steps(self, config: Config) -> int:
        """Return the total number of optimizer steps of the batch."""
        return len(self.training_batches) * config.num_iterations

    def tensors(self) -> dict[str, Tensor]:
        """Return what the remaining steps need as ``batch/...``, without the names of groups."""
        batch = self.rollout_batch
        sampling = json.dumps([batch.rounds, batch.sampling, batch.logged]).encode()
        found = {
            **arrays_of(batch.rollouts),
            **_visits(batch.rollouts),
            "place": np.array([self.done, self.dropped]),
            "left_out": np.array(self.left_out, dtype=np.int64),
            "sampling": np.frombuffer(sampling, dtype=np.uint8),
            "too_long": batch.too_long,
        }
        for place, training_batch in enumerate(self.training_batches):
            for name in _LOGPROBS:
                found |= flat(f"batch{place}/{name}", getattr(training_batch, name))
        return _tensors("batch/", found)


def kept(rollouts: Rollouts) -> dict[str, Tensor]:
    """Return groups that the next batch begins with as ``over/...``, without their names.

    Parameters
    ----------
    rollouts : Rollouts
        With tokens and log-probabilities.

    Returns
    -------
    dict of str to Tensor
        For a checkpoint.
    """
    return _tensors("over/", {**arrays_of(rollouts), **_visits(rollouts)})


def kept_in(tensors: Mapping[str, Tensor]) -> Rollouts | None:
    """Rebuild the groups that `kept` has put among the tensors of a checkpoint.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Of a checkpoint.

    Returns
    -------
    Rollouts or None
        None where there are none.
    """
    found = _found("over/", tensors)
    return _with_visits(found) if found else None


def restored(tensors: Mapping[str, Tensor], config: Config) -> Halfway | None:
    """Rebuild a batch from the tensors of `Halfway.tensors`.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Of a checkpoint.
    config : Config
        Resolved.

    Returns
    -------
    Halfway or None
        None where the checkpoint lies between two batches.
    """
    found = _found("batch/", tensors)
    if not found:
        return None
    # A checkpoint of before has nothing that was logged.
    rounds, sampling, *logged = json.loads(found["sampling"].tobytes())
    rollout_batch = RolloutBatch(
        _with_visits(found),
        found["too_long"],
        {},
        rounds=rounds,
        sampling=sampling,
        logged=logged[0] if logged else {},
    )
    cuts = prepare.minibatches(rollout_batch, config)
    training_batches = [
        replace(training_batch, **taken(_LOGPROBS, f"batch{place}/", found))
        for place, training_batch in enumerate(prepare.plain_batches(cuts, config))
    ]
    (done, dropped), left_out = found["place"].tolist(), found.get("left_out", np.empty(0)).tolist()
    return Halfway(rollout_batch, cuts, training_batches, done, dropped, left_out)


def _visits(rollouts: Rollouts) -> dict[str, NDArray[Any]]:
    """Return the names of groups where they are numbers, as those of visits to prompts are."""
    names = rollouts.group_ids
    if names is None or not all(isinstance(name, int) for name in names):
        return {}
    return {"visits": np.array(names, dtype=np.int64)}


def _with_visits(found: Mapping[str, NDArray[Any]]) -> Rollouts:
    rollouts, names = rollouts_of(found), found.get("visits")
    return rollouts if names is None else replace(rollouts, group_ids=names.tolist())


def _tensors(before: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {before + name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _found(before: str, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    named = ((name.removeprefix(before), name) for name in tensors if name.startswith(before))
    return {short: tensors[name].numpy() for short, name in named}
