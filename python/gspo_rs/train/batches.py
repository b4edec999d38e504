"""The batches of rollouts of a run: sampled online, or read from scored completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gspo_rs.data.group_index import GroupIndex
from gspo_rs.rewards.functions import RewardFunction
from gspo_rs.samplers import Sampler
from gspo_rs.train.config.config import Config
from gspo_rs.train.dataset import Dataset
from gspo_rs.train.model.policy import Policy
from gspo_rs.train.progress import Report, silent
from gspo_rs.train.rollout.collect import RolloutBatch, offline, online
from gspo_rs.train.trainer_state import TrainerState

__all__ = ["batches_of"]


def batches_of(
    policy: Policy,
    config: Config,
    data: Dataset,
    *,
    start: int,
    sampler: Sampler | None,
    rewards: Mapping[str, RewardFunction],
    state: Callable[[], TrainerState],
    report: Report = silent,
) -> Iterator[RolloutBatch]:
    """Return the batches of a run, endlessly.

    Parameters
    ----------
    policy, config, data, rewards, state, report
        Of the run.
    start : int
        Batches to leave out, those of before.
    sampler : Sampler or None
        Online, refreshed before a batch is asked for.
    """
    if isinstance(data.source, GroupIndex):
        return offline(policy, config, data.source, start=start, rollouts=data.rollouts)
    return online(
        policy,
        data.source,
        rewards,
        config,
        start=start,
        report=report,
        sampler=sampler,
        state=state,
    )
