"""The starting policy's log-probabilities of scored completions, taken once before the first step.

Offline all completions are there before the policy has moved, so no second model is kept. Letters:
``m`` sequences that are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gspo_rs.data.group_index import GroupIndex
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout import prepare
from gspo_rs.train.rollout.collect import offline
from gspo_rs.train.step.minibatch import Minibatch
from gspo_rs.train.step.training_batch import recompute

__all__ = ["Reference", "completed", "needed", "needs_second", "restored"]

_MEMBERS = 24
"""Bits of a key for the member of a row that has lists."""


@dataclass(frozen=True)
class Reference:
    """Log-probabilities under the starting policy.

    Attributes
    ----------
    keys : ndarray of int64, shape (m,)
        Which row of the data, and which member of it, each sequence is; rising.
    logprobs : Ragged of float32, m rows
        Of its sampled tokens.
    batches : int
        Batches of rollouts, from the first, all of whose rows are here.
    """

    keys: NDArray[np.int64]
    logprobs: Ragged
    batches: int

    def of(self, cut: Minibatch) -> Ragged:
        """Return those of the rows of a minibatch that are trained on.

        Raises
        ------
        ValueError
            If one is not here: the data are others than they were. Names the row.
        """
        wanted = _keys(cut)
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        differ = self.keys[places] != wanted
        if differ.any():
            row = int(cut.trained[differ.argmax()])
            raise ValueError(f"{cut.rollouts.place(row)} was not trained on before; did it change?")
        return self.logprobs.rows(places)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as ``reference/...``, for a checkpoint."""
        found = {
            "keys": self.keys,
            "values": self.logprobs.values,
            "lengths": self.logprobs.lengths,
            "batches": np.array([self.batches]),
        }
        return {f"reference/{name}": torch.from_numpy(array) for name, array in found.items()}


def restored(tensors: Mapping[str, Tensor]) -> Reference | None:
    """Rebuild what `Reference.tensors` has put among the tensors of a checkpoint.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Of a checkpoint.

    Returns
    -------
    Reference or None
        None where the checkpoint has none.
    """
    if "reference/keys" not in tensors:
        return None
    keys, values, lengths, batches = (
        tensors[f"reference/{name}"].numpy() for name in ("keys", "values", "lengths", "batches")
    )
    return Reference(keys, Ragged(values, lengths), int(batches[0]))


def needed(config: Config, data: Dataset) -> int:
    """Return how many batches of rollouts need it before a run can go to its end.

    Parameters
    ----------
    config : Config
        Resolved.
    data : Dataset
        What the run learns from.

    Returns
    -------
    int
        At most those of an epoch; 0 where the completions are yet to come, and for a run that needs
        no starting policy.
    """
    if not isinstance(data.source, GroupIndex) or not prepare.needs_start(config):
        return 0
    each = config.steps_per_generation * config.num_iterations
    return min(data.batches(config), -(-data.steps(config) // each))


def needs_second(config: Config, data: Dataset, known: Reference | None, *, resumed: bool) -> bool:
    """Return whether a run has to load the starting policy beside the one that it trains.

    Parameters
    ----------
    config : Config
        Resolved.
    data : Dataset
        What the run learns from.
    known : Reference or None
        That of the checkpoint.
    resumed : bool
        Whether the policy has moved; before its first step it is the starting one.

    Returns
    -------
    bool
        Offline only for a checkpoint without all that is needed, such as one with more steps to go.
    """
    if not isinstance(data.source, GroupIndex):
        return prepare.needs_start(config)
    return resumed and needed(config, data) > (0 if known is None else known.batches)


def completed(
    known: Reference | None,
    policy: Policy,
    config: Config,
    data: Dataset,
    *,
    frozen: Policy | None,
    moved: bool,
    report: Report = silent,
) -> Reference | None:
    """Compute what is not yet known, in the micro-batches of the steps of the first epoch.

    Parameters
    ----------
    known : Reference or None
        Of the first batches.
    policy : Policy
        The one that is trained.
    config : Config
        Resolved.
    data : Dataset
        What the run learns from.
    frozen : Policy or None
        The starting policy, where it is a model of its own.
    moved : bool
        Whether `policy` has taken a step.
    report : Report
        Gets how many batches are done.

    Returns
    -------
    Reference or None
        None where nothing is needed, as online.
    """
    number, first = needed(config, data), 0 if known is None else known.batches
    if number <= first:
        return known
    assert isinstance(data.source, GroupIndex)
    batches = offline(
        policy, config, data.source, start=first, rollouts=data.rollouts, log_ends=False
    )
    keys = [] if known is None else [known.keys]
    parts = [] if known is None else [known.logprobs]
    with policies.starting(policy, config, frozen, moved=moved) as start:
        for place, batch in zip(range(first, number), batches, strict=False):
            report(f"reference: batch {place + 1:,} of {number:,}")
            cuts = prepare.minibatches(batch, config)
            keys += map(_keys, cuts)
            plain = prepare.plain_batches(cuts, config)
            parts += [recompute(start, training_batch, config) for training_batch in plain]
    found = np.concatenate(keys)
    order = np.argsort(found)
    values = np.concatenate([part.values for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    return Reference(found[order], Ragged(values, lengths).rows(order), number)


def _keys(cut: Minibatch) -> NDArray[np.int64]:
    """Return what tells the rows of a minibatch that are trained on from all others of the data."""
    rows, members = cut.rollouts.source_rows, cut.rollouts.members
    assert rows is not None
    keys = rows << _MEMBERS
    found: NDArray[np.int64] = (keys if members is None else keys + members)[cut.trained]
    return found
