"""A partly trained batch of rollouts, flattened into tensors for a checkpoint and restored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.step.minibatch import Minibatch
from gspo_rs.train.step.training_batch import TrainingBatch

_LISTS = (
    "prompt_tokens",
    "completion_tokens",
    "completion_mask",
    "sampler_logprobs",
    "old_logprobs",
    "reference_rewards",
)
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
    """

    rollout_batch: RolloutBatch
    cuts: list[Minibatch]
    training_batches: list[TrainingBatch]
    done: int = 0
    dropped: int = 0

    def steps(self, config: Config) -> int:
        """Return the total number of optimizer steps of the batch."""
        return len(self.training_batches) * config.num_iterations

    def tensors(self) -> dict[str, Tensor]:
        """Return what the remaining steps need as ``batch/...``, without the names of groups."""
        rollouts = self.rollout_batch.rollouts
        texts = json.dumps([rollouts.prompts, rollouts.completions]).encode()
        found: dict[str, NDArray[Any]] = {
            "place": np.array([self.done, self.dropped]),
            "texts": np.frombuffer(texts, dtype=np.uint8),
            "offsets": rollouts.offsets,
            "reward": rollouts.reward,
            "too_long": self.rollout_batch.too_long,
        }
        for name in ("truncated", "rollout_ids"):
            if (column := getattr(rollouts, name)) is not None:
                found[name] = column
        for name, column in (rollouts.rewards or {}).items():
            found[f"rewards/{name}"] = column
        for name in _LISTS:
            found |= _flat(name, getattr(rollouts, name))
        for place, training_batch in enumerate(self.training_batches):
            for name in _LOGPROBS:
                found |= _flat(f"batch{place}/{name}", getattr(training_batch, name))
        return {f"batch/{name}": torch.from_numpy(array.copy()) for name, array in found.items()}


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
    found = {n[6:]: t.numpy() for n, t in tensors.items() if n.startswith("batch/")}
    if not found:
        return None
    prompts, completions = json.loads(found["texts"].tobytes())
    single = [name for name in found if name.startswith("rewards/")]
    rollouts = Rollouts(
        offsets=found["offsets"],
        prompts=prompts,
        completions=completions,
        reward=found["reward"],
        truncated=found.get("truncated"),
        rollout_ids=found.get("rollout_ids"),
        rewards={name[8:]: found[name] for name in single} or None,
        **_taken(_LISTS, "", found),
    )
    rollout_batch = RolloutBatch(rollouts, found["too_long"], {})
    cuts = prepare.minibatches(rollout_batch, config)
    training_batches = [
        replace(training_batch, **_taken(_LOGPROBS, f"batch{place}/", found))
        for place, training_batch in enumerate(prepare.plain_batches(cuts, config))
    ]
    return Halfway(rollout_batch, cuts, training_batches, *found["place"].tolist())


def _flat(name: str, rows: Ragged | None) -> dict[str, NDArray[Any]]:
    return {} if rows is None else {f"{name}/values": rows.values, f"{name}/lengths": rows.lengths}


def _taken(names: Sequence[str], before: str, found: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {
        name: Ragged(found[f"{before}{name}/values"], found[f"{before}{name}/lengths"])
        for name in names
        if f"{before}{name}/values" in found
    }
